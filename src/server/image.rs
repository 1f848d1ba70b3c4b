//! The program's own pages in memory.
//!
//! When a page of a program is touched, the system maps up to sixteen around it, if it has them at hand. Starting
//! touches a little of nearly everything, so that most of the binary would count as resident for ever, though a
//! broker at rest needs a third of it.
#![allow(unsafe_code)] // There is no safe interface for this; the proofs are at the calls.

/// Lets go of the pages that only the start has used. What is needed again is mapped again when it is touched, without
/// reading a disk as long as the system has it at hand; it takes less than a microsecond a page.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn forget_the_start() {
    // SAFETY: the callback is a function of this module that keeps the contract below and never unwinds.
    unsafe {
        libc::dl_iterate_phdr(Some(forget_object), std::ptr::null_mut());
    }
}

/// Lets go of the parts of a loaded object that nothing can have written.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" fn forget_object(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader gives a valid object for the time of the call.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader's count and address of the object's program headers, which stay where they are.
    let parts = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let is_only_read =
        |part: &&libc::Elf64_Phdr| part.p_type == libc::PT_LOAD && part.p_flags & libc::PF_W == 0;
    for part in parts.iter().filter(is_only_read) {
        let from = (object.dlpi_addr + part.p_vaddr) as usize / PAGE * PAGE;
        let to = (object.dlpi_addr + part.p_vaddr + part.p_memsz) as usize;
        // SAFETY: a private mapping of a file that was never writable, and has no relocations, therefore: each of its
        // pages is the file's, and the system gives it again. An error (such as for the kernel's own object, which is
        // no file) leaves everything as it was.
        unsafe {
            libc::madvise(from as *mut libc::c_void, to.saturating_sub(from), libc::MADV_DONTNEED);
        }
    }
    0
}

/// The smallest page there is; a mapping begins at a page of the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PAGE: usize = 4096;

/// Other systems count differently.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn forget_the_start() {}
