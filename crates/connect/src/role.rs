//! The programs of a fleet by what they need of the services: each has rights of its own (`docs/security.md`).

use std::fmt;
use std::str::FromStr;

/// A program, for the rights that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `loader`: S3, broker and database.
    Loader,
    /// `predictor`: broker and ML API.
    Predictor,
    /// `writer`: broker and database.
    Writer,
    /// `streamer`: broker and database.
    Streamer,
    /// `assay cancel`, `replay` and `repair`: broker and database.
    Desk,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Loader, Self::Predictor, Self::Writer, Self::Streamer, Self::Desk];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loader => "loader",
            Self::Predictor => "predictor",
            Self::Writer => "writer",
            Self::Streamer => "streamer",
            Self::Desk => "desk",
        }
    }

    /// Whether it connects to a database.
    pub const fn needs_database(self) -> bool {
        !matches!(self, Self::Predictor)
    }

    /// Whether it calls the ML API.
    pub const fn needs_ml_api(self) -> bool {
        matches!(self, Self::Predictor)
    }

    /// Whether it reads from S3.
    pub const fn needs_s3(self) -> bool {
        matches!(self, Self::Loader)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|role| role.as_str() == text);
        named.ok_or_else(|| format!("allowed: {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// How the rights of a user are judged: for one program, or for whatever they suffice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightsReport {
    /// For each program, what its user may not do; nothing if it may do all.
    pub missing: Vec<(Role, Vec<String>)>,
}

impl RightsReport {
    /// The finding: for one program each missing right is a failure; else it is enough that some program can work with them.
    pub fn judge(&self, check: &'static str, user: &str, wanted: Option<Role>, grants: &str) -> crate::Finding {
        use crate::Finding;
        if let Some(role) = wanted {
            let missing = self.missing.iter().find(|(named, _)| *named == role).map_or(&[][..], |(_, missing)| missing);
            return if missing.is_empty() {
                Finding::ok(check, format!("{user} may do all that the {role} does"))
            } else {
                Finding::failed(
                    check,
                    format!("{user} may not {}", missing.join(", ")),
                    format!("grant it, as {grants} does"),
                )
            };
        }
        let (enough, short): (Vec<_>, Vec<_>) = self.missing.iter().partition(|(_, missing)| missing.is_empty());
        let names =
            |roles: &[&(Role, Vec<String>)]| roles.iter().map(|(role, _)| role.as_str()).collect::<Vec<_>>().join(", ");
        match (enough.as_slice(), short.as_slice()) {
            (all, []) => Finding::ok(check, format!("{user} suffices for {}", names(all))),
            ([], [first, ..]) => Finding::failed(
                check,
                format!("{user} suffices for no program; for the {} it may not {}", first.0, first.1.join(", ")),
                format!("grant what the program needs, as {grants} does"),
            ),
            (some, short) => Finding::ok(
                check,
                format!(
                    "{user} suffices for {}; not for {} (--for names one, and what is missing)",
                    names(some),
                    names(short)
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn a_role_is_found_by_its_name() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("cook".parse::<Role>(), Err("allowed: loader, predictor, writer, streamer, desk".to_owned()));
    }

    #[test]
    fn rights_suffice_for_one_program_or_for_some() {
        let lacks = |text: &str| if text.is_empty() { vec![] } else { vec![text.to_owned()] };
        let report = |loader: &str, writer: &str| RightsReport {
            missing: vec![(Role::Loader, lacks(loader)), (Role::Writer, lacks(writer))],
        };
        let judge = |report: RightsReport, wanted| report.judge("rights", "user `u`", wanted, "deploy/x");
        let cases = [
            (report("", ""), None, Verdict::Ok, "suffices for loader, writer"),
            (report("", "read q"), None, Verdict::Ok, "suffices for loader; not for writer"),
            (report("write e", "read q"), None, Verdict::Failed, "no program; for the loader it may not write e"),
            (report("", "read q"), Some(Role::Loader), Verdict::Ok, "all that the loader does"),
            (report("", "read q"), Some(Role::Writer), Verdict::Failed, "user `u` may not read q"),
        ];
        for (report, wanted, verdict, words) in cases {
            let finding = judge(report, wanted);
            assert!(finding.verdict == verdict && finding.found.contains(words), "{finding:?}");
        }
    }
}
