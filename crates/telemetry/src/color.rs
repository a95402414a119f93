//! Whether output is coloured: as `--color` says, else as `NO_COLOR` and `CLICOLOR_FORCE` do, else on a terminal.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM=dumb; with CLICOLOR_FORCE elsewhere, too.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The setting of colours.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ColorOption {
    /// When to colour output: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, global = true, value_name = "WHEN")]
    pub color: ColorChoice,
}

impl ColorOption {
    /// Whether a stream is coloured.
    pub fn is_on(self, is_terminal: bool) -> bool {
        self.decide(is_terminal, |name| std::env::var_os(name))
    }

    fn decide(self, is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR").is_some() => false,
            ColorChoice::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            ColorChoice::Auto => is_terminal && set("TERM").is_none_or(|terminal| terminal != "dumb"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_variables_and_these_before_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        for (color, is_terminal, variables, expected) in [
            (Auto, true, &[][..], true),
            (Auto, false, &[], false),
            (Auto, true, &[("NO_COLOR", "1")], false),
            (Auto, true, &[("NO_COLOR", "")], true),
            (Auto, true, &[("TERM", "dumb")], false),
            (Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (Always, false, &[("NO_COLOR", "1")], true),
            (Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            let decided = ColorOption { color }.decide(is_terminal, variable);
            assert_eq!(decided, expected, "{color:?} {is_terminal} {variables:?}");
        }
    }
}
