//! Pictures of a run, as SVG that is drawn on the server: they need no script, and can be printed. Each comes with a table of what it shows.

mod histogram;
mod law;
mod timeline;

pub(crate) use self::histogram::histogram;
pub(crate) use self::law::{Law, law};
pub(crate) use self::timeline::{Series, Timeline, timeline};

use maud::{Markup, html};

/// A picture with its title and description for those who do not see it, and its table.
fn figure(id: &str, title: &str, description: &str, view: (u32, u32), drawing: &Markup, table: &Markup) -> Markup {
    let (width, height) = view;
    html! {
        figure.picture {
            svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-labelledby=(format!("{id}-name {id}-text")) {
                title id=(format!("{id}-name")) { (title) }
                desc id=(format!("{id}-text")) { (description) }
                (drawing)
            }
            details { summary { "Table" } div.scroll tabindex="0" role="region" aria-label=(format!("{title}: table")) { (table) } }
        }
    }
}

/// A length in an image: one decimal is finer than anybody sees.
fn px(length: f64) -> String {
    format!("{length:.1}")
}

/// A number in few characters, such as `1.2 M`.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn short(number: u64) -> String {
    let scaled = |unit: u64, name: &str| {
        let text = format!("{:.1}", number as f64 / unit as f64);
        format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match number {
        0..=9_999 => number.to_string(),
        10_000..=999_999 => scaled(1_000, "k"),
        1_000_000..=999_999_999 => scaled(1_000_000, "M"),
        _ => scaled(1_000_000_000, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_short() {
        for (number, text) in
            [(0, "0"), (9_999, "9999"), (12_000, "12 k"), (1_250_000, "1.2 M"), (3_000_000_000, "3 G")]
        {
            assert_eq!(short(number), text);
        }
    }
}
