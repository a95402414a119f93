use super::*;
use proptest::prelude::*;

const FORM: AddressForm = AddressForm {
    name: "AMQP_URL",
    schemes: &["amqp", "amqps"],
    of: "RabbitMQ",
    example: "amqp://user:password@host:5672/vhost",
};
const HTTP: AddressForm =
    AddressForm { name: "ML_API_URL", schemes: &["http", "https"], of: "an ML API", example: "http://localhost:8000" };

fn problem(text: &str) -> String {
    FORM.read(text).expect_err(text).to_string()
}

#[test]
fn an_address_is_parsed() {
    let name = |text: &str| Some(Host::Name(text.to_owned()));
    let ip = |text: &str| Some(Host::Ip(text.parse().unwrap()));
    let cases = [
        ("amqp://host", (None, None, name("host"), None, None)),
        ("AMQPS://Host.example.:5671/", (None, None, name("Host.example."), Some(5671), Some(""))),
        ("amqp://u@host:/v", (Some("u"), None, name("host"), None, Some("v"))),
        ("amqp://u:@host", (Some("u"), Some(""), name("host"), None, None)),
        ("amqp://u:p:w@host", (Some("u"), Some("p:w"), name("host"), None, None)),
        ("amqp://u:p[w]@host", (Some("u"), Some("p[w]"), name("host"), None, None)),
        ("amqp://u%3A:%40%2f%25é@10.0.0.1:1/%2F", (Some("u:"), Some("@/%é"), ip("10.0.0.1"), Some(1), Some("/"))),
        ("amqp://u:p@[2001:db8::1]:5682/v", (Some("u"), Some("p"), ip("2001:db8::1"), Some(5682), Some("v"))),
        ("amqp://[::1]", (None, None, ip("::1"), None, None)),
        ("amqp://[::ffff:127.0.0.1]:5672", (None, None, ip("::ffff:127.0.0.1"), Some(5672), None)),
        ("amqp:///a/b", (None, None, None, None, Some("a/b"))),
        (" amqp://127.0.0.1.nip.io\n", (None, None, name("127.0.0.1.nip.io"), None, None)),
        ("amqp://%2Frun%2Fpg/v", (None, None, Some(Host::Socket("/run/pg".to_owned())), None, Some("v"))),
    ];
    for (text, (user, password, host, port, path)) in cases {
        let read = FORM.read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Address { user: their_user, password: their_password, .. } = &read;
        assert_eq!((their_user.as_deref(), their_password.as_deref()), (user, password), "{text}");
        assert_eq!((read.host.clone(), read.port, read.path.as_deref()), (host, port, path), "{text}");
        assert!(!format!("{read:?}").contains("p:w"));
    }
    let read = FORM.read("amqp://h/v?a=1&&b=%26%3D&c=").unwrap();
    assert_eq!([read.parameter("a"), read.parameter("b"), read.parameter("c")], [Some("1"), Some("&="), Some("")]);
    assert_eq!(read.parameter("d"), None);
}

#[test]
fn an_ambiguous_address_is_refused_and_not_shown() {
    let encode = "percent-encode the special characters";
    let cases = [
        ("amqp://u:SEC@RET@host", encode),
        ("amqp://u:SEC/RET@host", encode),
        ("amqp://u:SEC?RET@host", encode),
        ("amqp://u:SEC#RET@host", encode),
        ("amqp://u:SEC%RET@host", encode),
        ("amqp://u:SECRET%@host", encode),
        ("amqp://u:SECRET%4@host", encode),
        ("amqp://u@SEC:RET@host", encode),
        ("amqp://host/SEC@RET", encode),
        ("amqp://host/?password=SEC@RET", encode),
        ("amqp://host/SEC#RET", encode),
        ("amqp://u:SEC#RET", encode),
        ("amqp://u:SECRET", "port is not a number"),
        ("amqp://u:SECRET/x", "port is not a number"),
        ("amqp://u:5672SECRET", "port is not a number"),
        ("amqp://SEC RET", "host is neither a name"),
        ("amqp://SECRÉT", "host is neither a name"),
        ("amqp://SEC%52ET", "host is neither a name"),
        ("amqp://SEC\nRET@host", "control character"),
        ("SECRET", "no scheme"),
        ("SECRET://host", "scheme is not supported"),
        ("SECRET@host:5672", "no scheme"),
        ("amqp://:SECRET@host", "a password but no user"),
        ("amqp://u:%FFSECRET@host", "not UTF-8"),
        ("amqp://u:SECRET%00@host", "NUL byte"),
        ("amqp://u:SECRET@a,b", "several hosts"),
        ("amqp://u:SECRET@a:1,b:2", "several hosts"),
        ("amqp://u:SECRET@::1", "in brackets"),
        ("amqp://u:SECRET@[::1", "not closed"),
        ("amqp://u:SECRET@[::1]x", "host is neither a name"),
        ("amqp://u:SECRET@[fe80::1%25eth0]:5672", "zone"),
        ("amqp://u:SECRET@[SECRET]", "not an IPv6 address"),
        ("amqp://u:SECRET@[127.0.0.1]", "not an IPv6 address"),
        ("amqp://u:SECRET@127.1", "host is neither a name"),
        ("amqp://u:SECRET@2130706433", "host is neither a name"),
        ("amqp://u:SECRET@0x7f.0.0.0x1", "host is neither a name"),
        ("amqp://u:SECRET@127.0.0.010", "host is neither a name"),
        ("amqp://u:SECRET@host:0", "port is not a number"),
        ("amqp://u:SECRET@host:65536", "port is not a number"),
        ("amqp://u:SECRET@host:+1", "port is not a number"),
        ("amqp://host?a=SEC+RET", "`+`"),
        ("amqp://host?SECRET", "no `=`"),
        ("amqp://host?a=1&a=SECRET", "twice"),
    ];
    for (text, expected) in cases {
        let problem = problem(text);
        assert!(problem.starts_with("AMQP_URL ") && problem.contains(expected), "{text}: {problem}");
        for piece in ["SEC", "RET", "secret"] {
            assert!(!problem.contains(piece), "{text}: {problem}");
        }
    }
    let backslash = HTTP.read("http://u:SEC\\RET@host").unwrap_err().to_string();
    assert!(backslash.contains(encode) && !backslash.contains("SEC"), "{backslash}");
    assert!(HTTP.read("http://:token@host").is_ok());
}

#[test]
fn a_parameter_of_another_client_is_ignored_if_it_changes_nothing() {
    let known: [(&str, &[&str]); 2] = [("pool", &[]), ("verify", &["verify_peer", "1"])];
    let passes = |name, value| FORM.ignores(&known, name, value).unwrap();
    assert!(passes("pool", "5") && passes("pool", "") && passes("verify", "1") && !passes("SECRET", "1"));
    let problem = FORM.ignores(&known, "verify", "SECRET").unwrap_err().to_string();
    assert!(problem.contains("verify has a value that is not supported, which are: verify_peer, 1"), "{problem}");
    assert!(!problem.contains("SECRET"), "{problem}");
}

#[test]
fn a_host_is_the_same_however_it_is_written() {
    let same = [
        ("::1", "[::1]"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("::ffff:127.0.0.1", "[::ffff:7f00:1]"),
        ("HOST", "host"),
        ("10.0.0.1", "10.0.0.1"),
        ("/run/pg", "/run/pg"),
    ];
    for (ours, theirs) in same {
        assert!(Host::read(ours).unwrap().is(theirs), "{ours} {theirs}");
    }
    for (ours, theirs) in
        [("::1", "localhost"), ("localhost", "127.0.0.1"), ("10.0.0.1", "10.0.0.2"), ("a", "a.b"), ("a", "")]
    {
        assert!(!Host::read(ours).unwrap().is(theirs), "{ours} {theirs}");
    }
    assert_eq!(FORM.read("amqp://[::1]:5672").unwrap().place(), "[::1]:5672");
    assert_eq!(FORM.read("amqp://a.b").unwrap().place(), "a.b");
    assert_eq!(Host::read("[::1]").unwrap().bare(), "::1");
}

proptest! {
    #[test]
    fn an_encoded_password_arrives_as_it_is(password in "[^\0]{0,40}", user in "[^\0]{1,20}", vhost in "[^\0]{0,20}") {
        let encode = percent_encoded;
        let text = format!("amqp://{}:{}@[::1]:5672/{}", encode(&user), encode(&password), encode(&vhost));
        let read = FORM.read(&text).unwrap();
        prop_assert_eq!(read.user, Some(user));
        prop_assert_eq!(read.password, Some(password));
        prop_assert_eq!(read.path, Some(vhost));
        prop_assert_eq!(read.host, Some(Host::Ip("::1".parse().unwrap())));
    }

    #[test]
    fn a_password_that_is_not_encoded_arrives_as_it_is_or_is_refused_without_a_piece_of_it(
        password in "[@/?#%:\\[\\]&=+ ,éXЖ]{1,30}"
    ) {
        match FORM.read(&format!("amqp://user:{password}@broker:5672/v")) {
            Ok(read) => {
                // What looks encoded is decoded: `%` and two hexadecimal digits, which this alphabet has none of.
                prop_assert_eq!(read.password, Some(password));
                prop_assert_eq!(read.host, Some(Host::Name("broker".to_owned())));
                prop_assert_eq!(read.port, Some(5672));
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains('X') && !message.contains('Ж') && !message.contains('é'), "{}", message);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = FORM.read(&text);
        let _ = FORM.read(&format!("amqp://{text}"));
    }
}
