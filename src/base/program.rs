//! The pages of the program itself that lie in memory.
//!
//! Starting (settings, migrations, keys) runs through most of the program, and the kernel maps sixteen pages around each
//! one used: two thirds of a program of thirty megabytes look resident from then on, and little of it is ever used again.
#![expect(
    unsafe_code,
    reason = "what is mapped where is for the kernel alone to tell; see `release` for why it is sound"
)]

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::{fs, io};

use rustix::mm::{Advice, madvise};

/// Lets go of the pages of the program's code and constants. What is used again is mapped again, mostly from the page
/// cache, at a microsecond for sixteen pages. Returns the bytes that were looked at.
///
/// # Errors
/// What the operating system says.
pub fn release() -> io::Result<usize> {
    let inode = fs::metadata("/proc/self/exe")?.ino();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut bytes = 0;
    for range in unwritten(&maps, inode) {
        let len = range.len();
        // SAFETY: the pages belong to a private mapping of a file, are not writable and hold no relocations, so none of
        // them differs from the file: it is read again where somebody needs it, and nobody sees a difference.
        unsafe { madvise(std::ptr::without_provenance_mut(range.start), len, Advice::LinuxDontNeed)? };
        bytes += len;
    }
    Ok(bytes)
}

/// The mappings of the file with number `inode` that have never been writable (`proc(5)`, "/proc/pid/maps"): its code, and
/// its head. Read-only parts further on may have been written while they were prepared.
fn unwritten(maps: &str, inode: u64) -> impl Iterator<Item = Range<usize>> {
    maps.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let of_file = fields.nth(1)?.parse::<u64>().ok()? == inode;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        let fits = of_file && matches!((rights, offset), ("r-xp", _) | ("r--p", 0));
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        fits.then_some(address(start)?..address(end)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_writable_is_let_go() {
        let maps = "\
            1000-2000 r--p 00000000 fe:00 42 /usr/bin/mainstay\n\
            2000-5000 r-xp 00001000 fe:00 42 /usr/bin/mainstay\n\
            5000-6000 r--p 00004000 fe:00 42 /usr/bin/mainstay\n\
            6000-7000 rw-p 00005000 fe:00 42 /usr/bin/mainstay\n\
            7000-8000 r-xp 00000000 fe:00 43 /usr/lib/other.so\n\
            8000-9000 rw-p 00000000 00:00 0 [heap]\n\
            nonsense\n";
        let found: Vec<Range<usize>> = unwritten(maps, 42).collect();
        assert_eq!(found, [0x1000..0x2000, 0x2000..0x5000]);
    }

    #[test]
    fn the_program_goes_on() {
        assert!(release().is_ok_and(|bytes| bytes > 0));
        assert_eq!(format!("{:?}", [1, 2, 3]), "[1, 2, 3]");
    }
}
