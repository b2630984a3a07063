//! Passwords that may be set, and the time that a refusal takes.

use super::*;

#[test]
fn a_hash_verifies_its_own_password_alone() {
    let hash = hash_password("correct horse battery").expect("hash");
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    assert!(verify("correct horse battery", &hash));
    assert!(!verify("correct horse batterz", &hash));
    assert!(!verify("x", "not a hash"));
}

#[test]
fn short_and_endless_passwords_are_refused() {
    let check = |password: &str| check_new_password("password", password, "alice");
    assert!(check("eleven char").is_err());
    assert!(check("twelve chars").is_ok());
    assert!(check(&"xy".repeat(129)).is_err());
    assert!(check("xxxxxxxxxxxxxxxxxx").is_err());
    assert!(check("i am Alice indeed").is_err());
}

#[test]
fn what_many_people_have_is_refused() {
    for common in ["Password1234", "qwertyuiop123", "1234567890123", "CorrectHorseBatteryStaple"] {
        assert!(check_new_password("password", common, "alice").is_err(), "{common}");
    }
    assert!(!is_common_password("correct horse battery"));
    for line in COMMON.lines() {
        assert!(line.chars().count() >= MIN_LENGTH, "{line} is refused for its length");
        assert_eq!(line, line.to_lowercase());
    }
}

#[test]
fn the_shortest_and_the_longest_password_are_taken() {
    let check = |password: &str| check_new_password("password", password, "alice").is_ok();
    assert!(check(&"xy".repeat(MAX_LENGTH / 2)));
    assert!(check("drei dürfen".repeat(2).as_str()));
    assert!(!check("drei dürfen"), "eleven characters, though twelve bytes");
    assert!(!check(&"é".repeat(12)), "one character again and again");
}

#[test]
fn a_user_name_in_a_password_is_found_in_any_case_unless_it_is_short() {
    let check = |name: &str, password: &str| check_new_password("p", password, name).is_ok();
    assert!(!check("Night.Shift", "my night.shift 1"));
    assert!(!check("alice", "xxALICExx 12345"));
    assert!(check("bob", "bob sleds downhill"), "a name of three letters is in many words");
    let error = check_new_password("new_password", "short", "alice").expect_err("short");
    assert_eq!(error.problem.errors[0].field, "new_password");
}

#[tokio::test]
async fn a_password_is_wrong_without_a_hash_and_if_it_is_endless() {
    let passwords = Passwords::new().expect("threads");
    let hash = passwords.hash("correct horse".to_owned()).await.expect("a hash");
    let verify = async |password: &str, hash: Option<&str>| {
        let verified = passwords.verify(password.to_owned(), hash.map(str::to_owned));
        verified.await.expect("an answer")
    };
    assert!(verify("correct horse", Some(&hash)).await);
    assert!(!verify("correct horse ", Some(&hash)).await);
    assert!(!verify("correct horse", None).await, "an unknown user");
    let endless = "x".repeat(MAX_LENGTH + 1);
    let of_it = hash_password(&endless).expect("a hash");
    assert!(!verify(&endless, Some(&of_it)).await, "it was never set");
}

#[test]
fn two_hashes_of_one_password_differ() {
    let (one, other) = (hash_password("correct horse"), hash_password("correct horse"));
    assert_ne!(one.expect("a hash"), other.expect("a hash"), "each has a salt of its own");
}
