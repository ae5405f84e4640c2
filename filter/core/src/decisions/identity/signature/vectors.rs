//! The signatures of Project Wycheproof, which try what verifiers are known to get wrong. <https://github.com/C2SP/wycheproof>
//!
//! Those of RSA (PKCS#1) and ECDSA pass by the oracle as Envoy's would: what they say of us is how keys and signatures are taken.

use super::super::keys::Curve;
use super::super::tokens::is_good;
use jsonwebtoken::{Algorithm, DecodingKey};
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

/// Tells how many vectors there were, so that none is left out unseen.
#[derive(Default)]
struct Tried {
    good: usize,
    bad: usize,
}

impl Tried {
    #[track_caller]
    fn one(&mut self, how: (Algorithm, &DecodingKey), message: &[u8], signature: &[u8], expected: bool) {
        let verdict = is_good(how.0, how.1, message, signature);
        assert_eq!(verdict, expected, "{:?} of {message:x?}: {signature:x?}", how.0);
        *if expected { &mut self.good } else { &mut self.bad } += 1;
    }
}

#[test]
fn wycheproofs_secrets_and_edwards_curve_are_as_they_must() {
    let mut tried = Tried::default();
    let secrets = [
        (Algorithm::HS256, mac::TestName::HmacSha256, 256),
        (Algorithm::HS384, mac::TestName::HmacSha384, 384),
        (Algorithm::HS512, mac::TestName::HmacSha512, 512),
    ];
    for (algorithm, set, bits) in secrets {
        for group in mac::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                // A tag that was cut short is none in JWS, whatever it is elsewhere.
                let expected = test.result == TestResult::Valid && group.tag_size == bits;
                tried.one((algorithm, &DecodingKey::from_secret(&test.key)), &test.msg, &test.tag, expected);
            }
        }
    }
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        for test in &group.tests {
            tried.one(
                (Algorithm::EdDSA, &DecodingKey::from_ed_der(&group.key.pk)),
                &test.msg,
                &test.sig,
                test.result == TestResult::Valid,
            );
        }
    }
    assert_eq!((tried.good, tried.bad), (187, 486));
}

#[test]
fn wycheproofs_rsa_and_curves_are_as_they_must() {
    let mut tried = Tried::default();
    let pkcs1 = [
        (Algorithm::RS256, rsa_pkcs1_verify::TestName::Rsa2048Sha256),
        (Algorithm::RS384, rsa_pkcs1_verify::TestName::Rsa2048Sha384),
        (Algorithm::RS512, rsa_pkcs1_verify::TestName::Rsa2048Sha512),
    ];
    for (algorithm, set) in pkcs1 {
        for group in rsa_pkcs1_verify::TestSet::load(set).unwrap().test_groups {
            let key = DecodingKey::from_rsa_raw_components(&group.key.n, &group.key.e);
            for test in &group.tests {
                tried.one((algorithm, &key), &test.msg, &test.sig, test.result == TestResult::Valid);
            }
        }
    }
    let set = rsa_pss_verify::TestName::RsaPss2048Sha256Mgf1SaltLen32;
    for group in rsa_pss_verify::TestSet::load(set).unwrap().test_groups {
        let key = DecodingKey::from_rsa_raw_components(&group.key.n, &group.key.e);
        for test in &group.tests {
            tried.one((Algorithm::PS256, &key), &test.msg, &test.sig, test.result == TestResult::Valid);
        }
    }
    let curves = [
        (Algorithm::ES256, Curve::P256, ecdsa::TestName::EcdsaSecp256r1Sha256P1363),
        (Algorithm::ES384, Curve::P384, ecdsa::TestName::EcdsaSecp384r1Sha384P1363),
    ];
    for (algorithm, curve, set) in curves {
        for group in ecdsa::TestSet::load(set).unwrap().test_groups {
            let key = DecodingKey::from_ec_der(&group.key.key);
            assert_eq!(Curve::of(&key), Some(curve));
            for test in &group.tests {
                tried.one((algorithm, &key), &test.msg, &test.sig, test.result == TestResult::Valid);
            }
        }
    }
    assert_eq!((tried.good, tried.bad), (453, 973));
}
