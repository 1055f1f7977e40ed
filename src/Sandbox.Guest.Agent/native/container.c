// What the agent does as the first process of a container: becoming a user of its own, and burying those whose parents have gone.
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static void give_up(const char *what) {
    const char *why = strerror(errno);
    if (write(2, "agent: ", 7) < 0 || write(2, what, strlen(what)) < 0 || write(2, ": ", 2) < 0 || write(2, why, strlen(why)) < 0 || write(2, "\n", 1) < 0) {
        // There is nobody to tell.
    }
    _exit(125);
}

// Runs before the managed runtime has begun any thread: user and capabilities belong to threads, and here there is one. The container starts the agent as root and not as its user, because gVisor gives a
// program of another user no capabilities at all.
__attribute__((constructor)) static void become_agent(int argc, char **argv) {
    if (argc < 3 || argc > 4 || strcmp(argv[1], "--container") != 0 || geteuid() != 0) {
        return;
    }
    if (argc == 4) {
        // Inherited by all that it starts: as many processors as the session was promised. What cannot be had is not missed.
        cpu_set_t processors;
        CPU_ZERO(&processors);
        long count = strtol(argv[3], NULL, 10);
        for (long i = 0; i < count && i < CPU_SETSIZE; i++) {
            CPU_SET(i, &processors);
        }
        sched_setaffinity(0, sizeof processors, &processors);
    }
    gid_t id = (gid_t)strtoul(argv[2], NULL, 10);
    if (id == 0) {
        return;
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(1, &id) < 0 || setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0) {
        give_up("cannot become its own user");
    }
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0) {
        give_up("cannot read its capabilities");
    }
    for (int i = 0; i < 2; i++) {
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &header, data) < 0) {
        give_up("cannot keep its capabilities");
    }
}

// Waits until a child has ended, and leaves it as it is. Its process id, or 0 where there is no child.
EXPORT int32_t sbx_ended_child(void) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result;
    while ((result = waitid(P_ALL, 0, &info, WEXITED | WNOWAIT)) < 0 && errno == EINTR) {
    }
    return result < 0 ? 0 : info.si_pid;
}

EXPORT void sbx_bury(int32_t pid) {
    while (waitpid(pid, NULL, WNOHANG) < 0 && errno == EINTR) {
    }
}
