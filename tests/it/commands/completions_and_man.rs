//! Completions and man pages: they cover every program and command, and say nothing of where they were made.

use std::path::Path;

use assay_tests::Program;

use super::assay;

const PROGRAMS: [&str; 6] = ["assay", "loader", "predictor", "writer", "streamer", "ml-api"];

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn every_command_has_a_page_with_its_settings_and_without_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let made = Program::new("assay").args(["man", "--output", "."]).within(folder.path());
    let made = made.env("DATABASE_URL", "postgres://assay:hush@nowhere/assay").env("KEY", "hush").env("USER", "hush");
    made.run().await.expect_exit(0);
    let pages = files(folder.path());
    let page = |name: &str| pages.iter().find(|(page, _)| page == &format!("{name}.1")).map(|(_, text)| text.as_str());

    let help = assay(folder.path(), &["help"]).await.expect_exit(0).stdout.clone();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.contains(&"run") && commands.contains(&"man"), "{commands:?}");
    let of_assay =
        commands.iter().filter(|command| !["", "help"].contains(command)).map(|command| format!("assay-{command}"));
    let others =
        ["loader-watch", "streamer-serve", "streamer-simulate"].iter().chain(&PROGRAMS).map(ToString::to_string);
    let expected: Vec<_> = of_assay.chain(others).collect();
    for name in &expected {
        let text = page(name).unwrap_or_else(|| panic!("{name} has no page"));
        assert!(text.contains(&format!(".TH {name} 1 ")), "{name}");
    }
    assert_eq!(pages.len(), expected.len());
    let health = page("assay-health").unwrap();
    assert!(health.contains("fBMETRICS_ADDR") && health.contains("Exits 0 if the program is healthy"), "{health}");
    for (name, text) in &pages {
        assert!(!text.contains("hush"), "{name} has a value of the environment");
    }
}

#[tokio::test]
async fn completions_are_made_for_every_program() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, begin, end) in [("bash", "", ".bash"), ("zsh", "_", ""), ("fish", "", ".fish")] {
        let output = folder.path().join(shell);
        std::fs::create_dir(&output).unwrap();
        let made = Program::new("assay").args(["completions", shell, "--output", shell]).within(folder.path());
        made.env("DATABASE_URL", "postgres://assay:hush@nowhere/assay").run().await.expect_exit(0);
        let mut expected: Vec<_> = PROGRAMS.iter().map(|program| format!("{begin}{program}{end}")).collect();
        expected.sort();
        let (names, texts): (Vec<_>, Vec<_>) = files(&output).into_iter().unzip();
        assert_eq!(names, expected);
        assert!(texts.iter().all(|text| text.contains("log-level") && !text.contains("hush")));
        let printed = assay(folder.path(), &["completions", shell]).await;
        let printed = &printed.expect_exit(0).stdout;
        assert!(texts.iter().all(|text| printed.contains(text)), "{shell}: all scripts are printed");
    }
    let ended = assay(folder.path(), &["man", "--output", "missing"]).await;
    ended.expect_one_clear_line(2, &["missing", "--output"]);
}

/// A shell finds what follows: the commands of `assay`, and the options of the other programs.
#[tokio::test]
async fn bash_completes() {
    let folder = tempfile::tempdir().unwrap();
    let script = assay(folder.path(), &["completions", "bash"]).await;
    std::fs::write(folder.path().join("completions"), &script.expect_exit(0).stdout).unwrap();
    let completed = |program: &str, word: &str| {
        let ask = format!(
            "source completions; COMP_WORDS=({program} {word}) COMP_CWORD=1; _{program} {program} {word} {program}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = std::process::Command::new("bash");
        let output = bash.args(["--norc", "-c", &ask]).current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(completed("assay", "stat"), "status\n");
    assert_eq!(completed("loader", "--chunk-r"), "--chunk-rows\n");
}
