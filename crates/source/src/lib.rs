//! Where rows come from: S3 objects and files, dialects and decoders.
