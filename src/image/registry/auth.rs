//! The challenge of a registry that wants to know who asks, and the answer to it.
//!
//! Sources: RFC 9110 § 11.6.1 (`WWW-Authenticate`), and the distribution project's token and OAuth2 specifications
//! (`spec/auth/token.md`, `spec/auth/oauth.md`), by which every public registry works.

use super::credentials::Credential;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One challenge: scheme in lower case, parameters with names in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..])
    }

    /// The challenge of an answer that this client can meet, `Bearer` before `Basic`.
    pub(super) fn of(headers: &HeaderMap) -> Option<Challenge> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<Challenge> = texts.flat_map(parse).collect();
        let rank = |challenge: &Challenge| ["bearer", "basic"].iter().position(|known| *known == challenge.scheme);
        all.into_iter().filter(|challenge| rank(challenge).is_some()).min_by_key(rank)
    }
}

/// Challenges of one header: `Scheme name=value, name="quoted \" value", Other …`.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if end == 0 {
            return found;
        }
        let word = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let Some(value) = rest.strip_prefix('=') else {
            found.push(Challenge { scheme: word, parameters: Vec::new() });
            continue;
        };
        let mut out = String::new();
        if let Some(quoted) = value.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, char)) = chars.next() {
                match char {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => out.extend(chars.next().map(|(_, char)| char)),
                    char => out.push(char),
                }
            }
            rest = &quoted[end..];
        } else {
            let end = value.find([' ', '\t', ',']).unwrap_or(value.len());
            out.push_str(&value[..end]);
            rest = &value[end..];
        }
        if let Some(challenge) = found.last_mut() {
            challenge.parameters.push((word, out));
        }
    }
}

/// The `Authorization` value for a user and a password.
pub(super) fn basic(username: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

/// What a token is asked for.
pub(super) struct TokenRequest {
    pub(super) url: reqwest::Url,
    pub(super) authorization: Option<String>,
    /// A form to be posted instead of a plain GET.
    pub(super) form: Option<String>,
}

/// The request that turns a credential (or none) into a token.
pub(super) fn token_request(
    mut realm: reqwest::Url,
    service: Option<&str>,
    scope: &str,
    credential: Option<&Credential>,
) -> TokenRequest {
    if let Some(Credential::IdentityToken(token)) = credential {
        let mut form = reqwest::Url::parse("form:").unwrap_or_else(|_| realm.clone());
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "alien")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("scope", scope)
            .append_pair("refresh_token", token);
        let form = form.query().unwrap_or_default().to_owned();
        return TokenRequest { url: realm, authorization: None, form: Some(form) };
    }
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
    }
    let authorization = match credential {
        Some(Credential::Password { username, password }) => Some(basic(username, password)),
        _ => None,
    };
    TokenRequest { url: realm, authorization, form: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_rfc_9110_writes_them() {
        let found = parse(
            r#"Basic realm="a, \"b\"", Bearer realm="https://a/token",service=x , scope="repository:a/b:pull,push""#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("realm"), Some("a, \"b\""));
        assert_eq!((found[1].scheme.as_str(), found[1].get("service")), ("bearer", Some("x")));
        assert_eq!(found[1].get("scope"), Some("repository:a/b:pull,push"));
        for broken in ["", ",,,", "=", "Bearer realm=\"", "Bearer realm=\"\\", "a=b"] {
            let _ = parse(broken);
        }
    }

    #[test]
    fn an_identity_token_is_posted_and_never_in_a_url() {
        let realm = reqwest::Url::parse("https://a/token").expect("a URL");
        let credential = Credential::IdentityToken("s&cret".into());
        let request = token_request(realm, Some("x"), "repository:a:pull", Some(&credential));
        assert_eq!(request.url.as_str(), "https://a/token");
        assert!(request.form.is_some_and(|form| form.ends_with("refresh_token=s%26cret")));
    }
}
