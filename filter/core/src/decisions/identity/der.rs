//! How is a public key or a signature written for a library that reads DER?
//!
//! Only what those need; nothing here reads. <https://www.rfc-editor.org/rfc/rfc5280#section-4.1>

/// A sequence of what is written already.
#[must_use]
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// A number that is not negative, from its bytes, the highest first.
#[must_use]
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    let digits = bytes.get(start..).unwrap_or_default();
    // A first bit that is set would make it negative.
    let is_high = digits.first().is_none_or(|byte| *byte >= 0x80);
    element(0x02, &[if is_high { &[0][..] } else { &[] }, digits].concat())
}

/// The public key of an RSA pair, with its algorithm: a `SubjectPublicKeyInfo`.
#[must_use]
pub fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const NULL: &[u8] = &[0x05, 0x00];
    let algorithm = sequence(&[RSA_ENCRYPTION.to_vec(), NULL.to_vec()]);
    sequence(&[algorithm, bits(&sequence(&[integer(modulus), integer(exponent)]))])
}

/// A point on a curve, with the curve's name: a `SubjectPublicKeyInfo`. `curve` is an object identifier as DER.
#[must_use]
pub fn ec_public_key(curve: &[u8], x: &[u8], y: &[u8]) -> Vec<u8> {
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let algorithm = sequence(&[EC_PUBLIC_KEY.to_vec(), curve.to_vec()]);
    sequence(&[algorithm, bits(&[&[0x04][..], x, y].concat())])
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0][..], bytes].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut written = vec![tag];
    let length = content.len().to_be_bytes();
    match u8::try_from(content.len()) {
        Ok(short @ 0..0x80) => written.push(short),
        _ => {
            let start = length.iter().position(|byte| *byte != 0).unwrap_or_default();
            let digits = length.get(start..).unwrap_or_default();
            written.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            written.extend_from_slice(digits);
        }
    }
    written.extend_from_slice(content);
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_der_number_is_minimal_and_never_negative() {
        for (bytes, expected) in [
            (&[0, 0, 1][..], &[2, 1, 1][..]),
            (&[0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 0], &[2, 1, 0]),
            (&[], &[2, 1, 0]),
        ] {
            assert_eq!(integer(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_length_above_127_has_its_own_length() {
        assert_eq!(element(4, &[0; 0x7f])[..2], [4, 0x7f]);
        assert_eq!(element(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(element(4, &[0; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }
}
