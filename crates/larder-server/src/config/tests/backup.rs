//! The section `[backup]`: what backups are encrypted by.

use super::*;

#[test]
fn backups_are_encrypted_as_the_section_says_and_its_secrets_are_shown_nowhere() {
    let key = "AGE-SECRET-KEY-12SXFTKGU9J8EG06UMNGTETPPM9F8LAPVLWRJ6REKF5TMZG7R5PRQHT66FM";
    let public = "age1nzm2yxq03axa553m6uf6tmj9p0d5mzv3xy98y3ny7fchezwtuqpqf6zfcj";
    let variables = [("KEY", key), ("WORDS", "correct horse battery staple"), ("SHORT", "hunter2")];
    let with = |section: &str| {
        let text = format!("data = \"d\"\n[backup]\n{section}\n");
        Config::read(Some((Path::new("larder.toml"), &text)), environment(&variables), &[])
    };
    let backup = |section: &str| with(section).expect("it is right").backup.expect("there is a place");
    let to = backup(&format!("encrypt_to = [\"{public}\"]\nidentities = [\"env:KEY\"]"));
    assert!(to.keys.opener().is_some() && format!("{:?}", to.seal_by).contains(public), "{to:?}");
    assert!(backup("passphrase = \"env:WORDS\"").keys.opener().is_some(), "what encrypts opens");
    assert!(backup("").seal_by.is_none() && backup("").keys.opener().is_none());
    let shown = with("passphrase = \"env:WORDS\"\nidentities = [\"env:KEY\"]").expect("it is right");
    let shown = format!("{}{shown:?}", show(&shown));
    assert!(shown.contains("passphrase = \"env:WORDS\"") && !shown.contains("horse") && !shown.contains(key), "{shown}");
    let cases = [
        ("encrypt_to = []".to_owned(), "found 0 keys, expected 1 to 64"),
        (format!("encrypt_to = [\"{public}\", \"{key}\"]"), "backup.encrypt_to: key 2: a secret key stands where its public one belongs"),
        (format!("encrypt_to = \"{key}\""), "backup.encrypt_to: found one text"),
        ("passphrase = 1234567890123".to_owned(), "backup.passphrase: found a text that is not shown here"),
        ("encrypt_to = [\"ssh-ed25519 AAAA\"]".to_owned(), "key 1: expected a public key of age"),
        (format!("passphrase = \"env:WORDS\"\nencrypt_to = [\"{public}\"]"), "found beside passphrase; expected one of the two"),
        ("passphrase = \"env:SHORT\"".to_owned(), "has 12 characters or more, and this one 7"),
        ("passphrase = \"hunter2\"".to_owned(), "backup.passphrase: found a text that is not shown here"),
        ("identities = [\"env:WORDS\"]".to_owned(), "line 1 is no secret key of age"),
        ("identities = [\"env:NONE\"]".to_owned(), "the environment has no variable NONE"),
    ];
    for (section, words) in cases {
        let told = with(&section).expect_err(words).to_string();
        assert!(told.contains(words), "{words}: {told}");
        assert!(!told.contains(key) && !told.contains("horse") && !told.contains("hunter2") && !told.contains("123456"), "{told}");
    }
}
