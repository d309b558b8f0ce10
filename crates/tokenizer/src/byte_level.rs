//! The reversible alphabet of byte-level BPE (GPT-2): every byte has one printable character.
//! This file does not know vocabularies.

/// The character that stands for `byte` in a byte-level vocabulary.
pub(crate) fn char_of_byte(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&earlier| !is_printable(earlier)).count() as u32;
    char::from_u32(256 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `character` stands for, or `None` outside the alphabet.
pub(crate) fn byte_of_char(character: char) -> Option<u8> {
    let code = u32::from(character);
    if code < 256 {
        let byte = code as u8;
        return is_printable(byte).then_some(byte);
    }
    // The unprintable bytes in ascending order: 0..=32, 127..=160, 173.
    match code - 256 {
        rank @ 0..=32 => Some(rank as u8),
        rank @ 33..=66 => Some((rank - 33 + 127) as u8),
        67 => Some(173),
        _ => None,
    }
}

/// The bytes of a byte-level token. A token with a character outside the alphabet stands for its own text.
pub(crate) fn bytes_of_token(token: &str) -> Vec<u8> {
    token.chars().map(byte_of_char).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        for byte in 0..=255u8 {
            assert_eq!(byte_of_char(char_of_byte(byte)), Some(byte));
        }
        assert_eq!(char_of_byte(b' '), 'Ġ');
        assert_eq!(char_of_byte(b'\n'), 'Ċ');
        assert_eq!(byte_of_char(' '), None);
        assert_eq!(byte_of_char('中'), None);
    }

    #[test]
    fn tokens_outside_the_alphabet_are_their_own_text() {
        assert_eq!(bytes_of_token("Ġhello"), b" hello");
        assert_eq!(bytes_of_token("中 文"), "中 文".as_bytes());
    }
}
