//! Lists the objects of a bucket under a prefix.

use std::borrow::Cow;

use aws_sdk_s3::types::EncodingType;
use futures_util::Stream;
use futures_util::stream::TryStreamExt as _;
use percent_encoding::percent_decode_str;

use crate::s3::client::{S3Client, unquoted_tag};
use crate::{SourceError, SourceUrl};

/// An object as listed. The object itself may be newer, or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its address.
    pub url: SourceUrl,
    /// Its ETag, if the listing has one.
    pub version: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

impl S3Client {
    /// Lists all objects under a prefix, ordered by key, page by page.
    pub(crate) fn list<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> impl Stream<Item = Result<ListedObject, SourceError>> + Send + use<'a> {
        let pages = futures_util::stream::try_unfold(Some(None), move |state: Option<Option<String>>| async move {
            let Some(token) = state else { return Ok(None) };
            let (page, next) = self.list_page(bucket, prefix, token).await?;
            let page = futures_util::stream::iter(page.into_iter().map(Ok));
            Ok::<_, SourceError>(Some((page, next.map(Some))))
        });
        pages.try_flatten()
    }

    /// One page, and the token of the next one.
    async fn list_page(
        &self,
        bucket: &str,
        prefix: &str,
        token: Option<String>,
    ) -> Result<(Vec<ListedObject>, Option<String>), SourceError> {
        let location = format!("s3://{bucket}/{prefix}");
        let target = self.target(bucket, &location);
        // Keys may hold characters that XML cannot.
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix).encoding_type(EncodingType::Url);
        let page = request.set_continuation_token(token).send().await.map_err(|error| target.error(&error))?;
        let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
        let listed = page.contents().iter().map(|object| {
            let key = object.key().ok_or_else(|| target.refused("with a listing that lacks a key"))?;
            let key = if is_encoded { decoded(key) } else { Some(key.to_owned()) };
            let key = key.ok_or_else(|| target.refused("with a key that is not UTF-8"))?;
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| target.refused("with a listing that lacks a size"))?;
            let version = object.e_tag().map(unquoted_tag);
            Ok(ListedObject { url: SourceUrl::S3 { bucket: bucket.to_owned(), key }, version, size })
        });
        let listed = listed.collect::<Result<_, SourceError>>()?;
        let next = match (page.is_truncated() == Some(true), page.next_continuation_token()) {
            (true, Some(token)) => Some(token.to_owned()),
            (true, None) => return Err(target.refused("with a truncated listing without a continuation token")),
            (false, _) => None,
        };
        Ok((listed, next))
    }
}

/// Decodes a key that was form-encoded on request.
fn decoded(key: &str) -> Option<String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().ok().map(Cow::into_owned)
}
