//! Calls to the system that no grain may make: those that reach the machine as a whole, and those whose own faults have led
//! out of such walls. Inits, package managers and servers do without them, or know what to do when they are refused.

/// The profile as LXC reads it. Refused calls fail; what asks for one sees an error, and what is written for kernels without
/// the call (error 38) does without.
pub(super) const PROFILE: &str = "\
2
denylist
[all]
kexec_load errno 1
kexec_file_load errno 1
init_module errno 1
finit_module errno 1
delete_module errno 1
open_by_handle_at errno 1
bpf errno 1
userfaultfd errno 1
perf_event_open errno 1
acct errno 1
swapon errno 1
swapoff errno 1
iopl errno 1
ioperm errno 1
lookup_dcookie errno 1
vhangup errno 1
keyctl errno 38
add_key errno 38
request_key errno 38
io_uring_setup errno 38
io_uring_enter errno 38
io_uring_register errno 38
clone3 errno 38
clone errno 1 [0,0x10000000,SCMP_CMP_MASKED_EQ,0x10000000]
unshare errno 1 [0,0x10000000,SCMP_CMP_MASKED_EQ,0x10000000]
";
