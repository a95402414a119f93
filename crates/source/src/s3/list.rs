//! What lies in a bucket under a prefix.

use futures_util::Stream;
use futures_util::stream::TryStreamExt as _;

use crate::s3::S3Client;
use crate::{SourceError, SourceUrl};

/// An object as a listing shows it. The object itself may be newer than its listing, and may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub url: SourceUrl,
    /// Its ETag, where the listing has one.
    pub version: Option<String>,
    /// How many bytes it has.
    pub size: u64,
}

impl S3Client {
    /// Every object under a prefix, in the order of their keys, a page of the listing at a time.
    pub(crate) fn list<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> impl Stream<Item = Result<Listed, SourceError>> + Send + use<'a> {
        let pages = futures_util::stream::try_unfold(Some(None), move |state: Option<Option<String>>| async move {
            let Some(token) = state else { return Ok(None) };
            let (page, next) = self.list_page(bucket, prefix, token).await?;
            let page = futures_util::stream::iter(page.into_iter().map(Ok));
            Ok::<_, SourceError>(Some((page, next.map(Some))))
        });
        pages.try_flatten()
    }
}
