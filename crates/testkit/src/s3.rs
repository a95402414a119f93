//! An S3 server in this process: buckets are folders, requests are signed, over a loopback socket.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use axum::error_handling::HandleError;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Range,
    StreamingBlob,
};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::task::JoinHandle;

/// Read from a file and sent at a time.
const PIECE: usize = 256 * 1024;

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl S3Server {
    /// The only access key, for `KEY`.
    pub const KEY: &str = "assay-tests";
    /// Its secret, for `SECRET`.
    pub const SECRET: &str = "not-a-secret";

    /// Starts a server without any bucket.
    pub async fn start() -> Self {
        Self::serving(|files, folder| Objects { files, folder }).await
    }

    /// Starts a server of other objects, over a folder whose entries are the buckets.
    pub async fn serving<O: S3>(objects: impl FnOnce(FileSystem, PathBuf) -> O) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let files = FileSystem::new(folder.path()).expect("the folder exists");
        let mut builder = S3ServiceBuilder::new(objects(files, folder.path().to_owned()));
        builder.set_auth(SimpleAuth::from_single(Self::KEY, Self::SECRET));
        let service = HandleError::new(builder.build(), |error: s3s::HttpError| async move {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let task = tokio::spawn(async move {
            let router = axum::Router::new().fallback_service(service);
            axum::serve(listener, router).await.expect("the S3 server serves");
        });
        Self { folder, address, task }
    }

    /// For `ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file of an object.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.path().join(bucket).join(key)
    }

    /// Puts an object and its bucket; returns its URL.
    pub fn put(&self, bucket: &str, key: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(bucket, key);
        std::fs::create_dir_all(path.parent().expect("an object lies in a bucket")).expect("the bucket is made");
        std::fs::write(path, content).expect("the object is written");
        format!("s3://{bucket}/{key}")
    }

    /// Puts a file and its bucket; returns its URL. Each put makes a new version.
    pub fn put_file(&self, bucket: &str, key: &str, file: impl AsRef<Path>) -> String {
        let url = self.put(bucket, key, "");
        std::fs::copy(file, self.file(bucket, key)).expect("the object is written");
        // Without this note of an upload, the server hashes the whole file for each requested part.
        let noted = [bucket, key].map(|name| URL_SAFE_NO_PAD.encode(name));
        let note = format!(".bucket-{}.object-{}.internal.json", noted[0], noted[1]);
        let version = serde_json::json!({ "e_tag": uuid::Uuid::new_v4().simple().to_string() });
        std::fs::write(self.folder.path().join(note), version.to_string()).expect("the note is written");
        url
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The objects of a folder, with `If-Match` on GET, which `s3s-fs` lacks. It reads them in larger pieces: those of `s3s-fs` cost
/// half as much as a loader.
struct Objects {
    files: FileSystem,
    folder: PathBuf,
}

impl Objects {
    /// This many bytes of an object, up to the end of the range.
    fn content(&self, object: &GetObjectInput, length: u64) -> std::io::Result<StreamingBlob> {
        let mut file = File::open(self.folder.join(&object.bucket).join(&object.key))?;
        match object.range {
            Some(Range::Int { first, .. }) => file.seek(SeekFrom::Start(first))?,
            _ => file.seek(SeekFrom::End(-length.cast_signed()))?,
        };
        let mut rest = file.take(length);
        let pieces = std::iter::from_fn(move || {
            let mut piece = vec![0; PIECE];
            match rest.read(&mut piece) {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    Some(Ok(Bytes::from(piece)))
                }
                Err(error) => Some(Err(error)),
            }
        });
        Ok(StreamingBlob::wrap(futures_util::stream::iter(pieces)))
    }
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.files.head_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let object = request.input.clone();
        let wanted = object.if_match.as_ref().and_then(|condition| condition.as_etag());
        let mut response = self.files.get_object(request).await?;
        match (wanted, &response.output.e_tag) {
            (Some(wanted), Some(found)) if !wanted.strong_cmp(found) => return Err(s3_error!(PreconditionFailed)),
            _ => {}
        }
        let length = response.output.content_length.unwrap_or_default();
        let content = self.content(&object, length.cast_unsigned());
        response.output.body = Some(content.map_err(|error| s3_error!(error, InternalError))?);
        Ok(response)
    }
}
