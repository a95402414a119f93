//! The identity of a transaction: a UUID that is always the same for the same row of the same source.

use std::fmt;

use uuid::Uuid;

use super::ordered_id::ordered;
use crate::IdScheme;

/// The namespace in which ids are unique. Sources with the same namespace share their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Namespace(Uuid);

impl Namespace {
    /// The namespace of a name: a UUID is taken as is, any other name is hashed (UUIDv5 of the URL namespace).
    pub fn new(name: &str) -> Self {
        Self(Uuid::try_parse(name).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())))
    }

    /// The stored identity of an id, and the original id if the identity does not contain it.
    ///
    /// A hyphenated UUID is kept in any namespace; any other id becomes a function of (namespace, id): by the first scheme
    /// UUIDv5, by the second UUIDv8 if it ends in a number.
    pub fn identify(self, scheme: IdScheme, id: &str) -> (Uuid, Option<&str>) {
        if let Some(uuid) = hyphenated_uuid(id) {
            return (uuid, None);
        }
        let ordered = match scheme {
            IdScheme::V5 => None,
            IdScheme::V8 => ordered(self.0, id),
        };
        (ordered.unwrap_or_else(|| Uuid::new_v5(&self.0, id.as_bytes())), Some(id))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Only the 36-character form: 32 hex digits may be some other hash.
fn hyphenated_uuid(id: &str) -> Option<Uuid> {
    (id.len() == 36).then(|| Uuid::try_parse(id).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_kept_and_anything_else_is_hashed() {
        let namespace = Namespace::new("s3://transactions/a.csv");
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for (scheme, version) in [(IdScheme::V5, 5), (IdScheme::V8, 8)] {
            assert_eq!(namespace.identify(scheme, uuid), (uuid.parse().unwrap(), None));
            for (id, version) in [
                ("4711", version),
                ("67e5504410b1426f9247bb680e5fe0c8", version),
                ("{67e55044-10b1-426f-9247-bb680e5fe0c8}", 5),
            ] {
                let (stored, external) = namespace.identify(scheme, id);
                assert_eq!((external, stored.get_version_num()), (Some(id), version));
                assert_eq!(namespace.identify(scheme, id).0, stored, "the same id is the same transaction");
                assert_ne!(Namespace::new("s3://transactions/b.csv").identify(scheme, id).0, stored);
            }
        }
    }

    #[test]
    fn a_namespace_may_be_given_as_a_uuid() {
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(Namespace::new(uuid).to_string(), uuid);
    }
}
