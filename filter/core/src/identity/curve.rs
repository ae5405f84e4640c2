//! Is this a point of that curve?
//!
//! Whoever checks signatures with a point that is on no curve, or on another one, checks nothing. All curves here have
//! cofactor 1, so that each of their points is good. <https://www.rfc-editor.org/rfc/rfc7517#section-4>,
//! <https://nvlpubs.nist.gov/nistpubs/SpecialPublications/NIST.SP.800-186.pdf> (the curves),
//! <https://nvlpubs.nist.gov/nistpubs/SpecialPublications/NIST.SP.800-56Ar3.pdf> (5.6.2.3, what is to be checked)

use rsa::BigUint;

/// A curve of ECDSA: `y² = x³ - 3x + b`, modulo a prime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1
    P256,
    /// secp384r1
    P384,
}

impl Curve {
    /// The length of a coordinate.
    #[must_use]
    pub const fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// Its object identifier, as DER.
    #[must_use]
    pub const fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
        }
    }

    /// The prime and `b`, in hexadecimal digits.
    const fn domain(self) -> [&'static [u8]; 2] {
        match self {
            Self::P256 => [
                b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
                b"5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
            ],
            Self::P384 => [
                b"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe\
                  ffffffff0000000000000000ffffffff",
                b"b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875a\
                  c656398d8a2ed19d2a85c8edd3ec2aef",
            ],
        }
    }

    /// Whether it has the point with these coordinates.
    #[must_use]
    pub fn has(self, x: &[u8], y: &[u8]) -> bool {
        let [prime, b] = self.domain().map(|digits| BigUint::parse_bytes(digits, 16));
        let (Some(prime), Some(b)) = (prime, b) else { return false };
        let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
        if x >= prime || y >= prime {
            return false;
        }
        // Three times x is taken to the other side, for these numbers have no sign.
        let left = &y * &y + &x * 3u32;
        let right = &x * &x * &x + b;
        left % &prime == right % &prime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn bytes(digits: &str) -> Vec<u8> {
        BigUint::parse_bytes(digits.as_bytes(), 16).unwrap().to_bytes_be()
    }

    #[test]
    fn a_curve_has_its_generator_and_none_beside_it() {
        let generators = [
            (
                Curve::P256,
                "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
                "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            ),
            (
                Curve::P384,
                "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
                "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
            ),
        ];
        for (curve, x, y) in generators {
            let (x, y) = (bytes(x), bytes(y));
            assert!(curve.has(&x, &y), "{curve:?}");
            assert!(!curve.has(&y, &x), "{curve:?}");
            for at in 0..x.len() {
                let mut other = y.clone();
                other[at] ^= 1;
                assert!(!curve.has(&x, &other), "{curve:?} {at}");
            }
            let other = if curve == Curve::P256 { Curve::P384 } else { Curve::P256 };
            assert!(!other.has(&x, &y));
            // The same point, written with what is no coordinate.
            let prime = BigUint::parse_bytes(curve.domain()[0], 16).unwrap();
            assert!(!curve.has(&x, &(BigUint::from_bytes_be(&y) + prime).to_bytes_be()));
            assert!(!curve.has(&[0], &[0]));
        }
    }
}
