//! What this process is called by the services that it connects to.

use rand::Rng as _;

/// The name of this host.
pub fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().trim().to_owned()
}

/// Eight random characters, to tell processes apart that share a host and a process number.
pub fn random_suffix() -> String {
    format!("{:08x}", rand::rng().random::<u32>())
}

/// `host/pid/suffix`: a name that no other process has. Each call returns another one.
pub fn unique_process_name() -> String {
    format!("{}/{}/{}", host_name(), std::process::id(), random_suffix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_unique() {
        let name = unique_process_name();
        assert!(name.contains(&format!("/{}/", std::process::id())), "{name}");
        assert_ne!(name, unique_process_name());
    }
}
