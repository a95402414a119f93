//! What the user of `DATABASE_URL` may do, for each program: as `deploy/postgres/roles.sql` grants it.

use assay_connect::{Diagnosis, RightsReport, Role};
use sqlx::{Connection as _, PgConnection};

use super::super::PostgresServer;
use super::super::begin::READING;
use crate::StoreError;

/// Rights and the tables that a program needs them on, as the statements of a grant name them.
type Grants = &'static [(&'static str, &'static str)];

/// Every program checks the version of the tables.
const ALL: Grants = &[("SELECT", "_sqlx_migrations schema_compatibility")];
const LOADER: Grants = &[
    ("SELECT, INSERT, UPDATE", "runs"),
    ("SELECT", "chunks live_runs predictions model_endpoints run_models"),
    ("INSERT", "operations"),
    ("SELECT (id, run_id, row_number)", "transactions"),
    ("SELECT (run_id, row_number, reason)", "invalid_transactions"),
    ("SELECT (run_id, row_number, class)", "failed_transactions"),
    ("SELECT (run_id, outcome, received_at, resolved_at)", "dead_letters"),
];
const WRITER: Grants = &[
    ("SELECT, INSERT, UPDATE", "runs transactions predictions replay_parts live_runs"),
    ("SELECT, INSERT, UPDATE, DELETE", "chunks failed_transactions"),
    ("SELECT, INSERT, DELETE", "invalid_transactions run_statistics"),
    ("SELECT, INSERT, UPDATE", "dead_letters"),
    ("SELECT, INSERT", "live_messages row_history model_endpoints run_models"),
    ("INSERT", "operations transaction_history"),
    ("SELECT", "replays live_counts erasure_key erased_ids"),
];
const STREAMER: Grants = &[
    ("SELECT, INSERT", "runs live_runs"),
    ("SELECT, INSERT, UPDATE", "live_counts"),
    ("SELECT", "transactions predictions model_endpoints failed_transactions"),
    ("SELECT (transaction_id)", "transaction_history"),
];
const DESK: Grants = &[
    ("SELECT, UPDATE", "runs dead_letters"),
    ("SELECT, INSERT", "operations replays"),
    (
        "SELECT",
        "runs chunks transactions predictions transaction_history invalid_transactions failed_transactions dead_letters \
         operations replays replay_parts row_history live_runs live_messages live_counts model_endpoints run_models \
         run_statistics",
    ),
];

fn grants(role: Role) -> Option<Grants> {
    match role {
        Role::Loader => Some(LOADER),
        Role::Writer => Some(WRITER),
        Role::Streamer => Some(STREAMER),
        Role::Desk => Some(DESK),
        Role::Predictor => None,
    }
}

/// One right on one table, or on one of its columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    table: String,
    column: Option<String>,
    privilege: String,
}

/// Sorted rights for a person, those on one table or column together: there may be dozens.
fn describe(rights: &[&Right]) -> Vec<String> {
    let together = rights.chunk_by(|one, next| (&one.table, &one.column) == (&next.table, &next.column));
    let described = together.filter_map(|rights| {
        let Right { table, column, .. } = rights.first()?;
        let privileges: Vec<_> = rights.iter().map(|right| right.privilege.as_str()).collect();
        let column = column.as_ref().map(|column| format!(" ({column})")).unwrap_or_default();
        Some(format!("{}{column} on {table}", privileges.join(" and ")))
    });
    described.collect()
}

/// Each right of these grants alone.
fn single(grants: Grants) -> Vec<Right> {
    let mut rights = Vec::new();
    for (privileges, tables) in ALL.iter().chain(grants) {
        let (privileges, columns) = privileges.split_once(" (").unwrap_or((privileges, ""));
        let columns: Vec<_> = columns.trim_end_matches(')').split(", ").filter(|column| !column.is_empty()).collect();
        for table in tables.split_whitespace() {
            for privilege in privileges.split(", ") {
                let right = |column: Option<&str>| Right {
                    table: table.to_owned(),
                    column: column.map(str::to_owned),
                    privilege: privilege.to_owned(),
                };
                match columns.as_slice() {
                    [] => rights.push(right(None)),
                    columns => rights.extend(columns.iter().map(|column| right(Some(column)))),
                }
            }
        }
    }
    rights
}

/// Which of the rights are missing, by their places.
const MISSING: &str = "
    SELECT place FROM UNNEST($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS needed(name, part, privilege, place)
    WHERE NOT CASE WHEN part = '' THEN has_table_privilege(quote_ident(name), privilege)
        ELSE has_column_privilege(quote_ident(name), part, privilege) END
    ORDER BY place";

/// Adds the finding.
pub(super) async fn check(
    diagnosis: &mut Diagnosis,
    server: &PostgresServer,
    connection: &mut PgConnection,
    role: Option<Role>,
) {
    let roles = role.map_or_else(|| Role::ALL.to_vec(), |role| vec![role]);
    let asking = async {
        let mut reading = connection.begin_with(server.opening().statement(READING)).await?;
        let mut missing = Vec::new();
        for (role, grants) in roles.into_iter().filter_map(|role| Some((role, grants(role)?))) {
            let mut needed = single(grants);
            // Two grants may name one right.
            needed.sort();
            needed.dedup();
            let column = |part: fn(&Right) -> String| needed.iter().map(part).collect::<Vec<_>>();
            let places: Vec<i64> = sqlx::query_scalar(MISSING)
                .bind(column(|right| right.table.clone()))
                .bind(column(|right| right.column.clone().unwrap_or_default()))
                .bind(column(|right| right.privilege.clone()))
                .fetch_all(&mut *reading)
                .await?;
            let at = |place: i64| needed.get(usize::try_from(place).ok()?.checked_sub(1)?);
            let lacking: Vec<_> = places.into_iter().filter_map(at).collect();
            missing.push((role, describe(&lacking)));
        }
        reading.commit().await?;
        Ok::<_, StoreError>(RightsReport { missing })
    };
    if let Some(report) = diagnosis.step("rights", asking).await {
        let user = format!("user `{}`", server.user());
        diagnosis.add(report.judge("rights", &user, role, "deploy/postgres/roles.sql"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The grants of a role in the script, in its words.
    fn in_script(role: &str) -> Vec<(String, String)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/postgres/roles.sql");
        let script = std::fs::read_to_string(path).unwrap();
        let from = script.split_once("INSERT INTO assay_grants VALUES").unwrap().1;
        let statements: String = from.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let lines = statements.split_once(';').unwrap().0;
        let texts: Vec<&str> = lines.split('\'').skip(1).step_by(2).collect();
        assert_eq!(texts.len() % 3, 0, "{texts:?}");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let of = texts.chunks(3).filter(|entry| entry[0].split(", ").any(|granted| granted == role));
        of.map(|entry| (entry[1].to_owned(), words(entry[2]))).collect()
    }

    #[test]
    fn the_rights_are_those_that_the_script_grants() {
        let roles =
            [("assay_loader", LOADER), ("assay_writer", WRITER), ("assay_streamer", STREAMER), ("assay_desk", DESK)];
        for (role, grants) in roles {
            let granted: Vec<_> =
                ALL.iter().chain(grants).map(|(rights, tables)| ((*rights).to_owned(), (*tables).to_owned())).collect();
            assert_eq!(in_script(role), granted, "{role}");
        }
    }

    #[test]
    fn a_grant_is_taken_apart() {
        let rights = single(&[("SELECT, INSERT", "a b"), ("SELECT (x, y)", "c")]);
        let own: Vec<_> = rights.iter().skip(2).collect();
        assert_eq!(own.len(), 6);
        assert_eq!(
            describe(&own),
            ["SELECT and INSERT on a", "SELECT and INSERT on b", "SELECT (x) on c", "SELECT (y) on c"]
        );
    }
}
