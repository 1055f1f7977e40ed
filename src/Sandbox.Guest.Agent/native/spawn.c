// Starts one program in its own session. C and not C#, because nothing of the managed runtime works in a new process before
// exec: everything the child does here is a plain system call on memory the parent prepared.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#define EXPORT __attribute__((visibility("default")))
#define MAX_CHILD_FDS 8
#define HIGH_FD 100
#define CHILD_STACK (32 * 1024)

// Where in the child something failed; ProcessLauncher has a text for each.
enum stage { STAGE_FORK = 1, STAGE_CGROUP, STAGE_FDS, STAGE_TTY, STAGE_IDENTITY, STAGE_CWD, STAGE_EXEC };

struct sbx_spawn_request {
    const char *const *candidates;  // paths to try in order, NULL at the end
    const char **argv;              // NULL at the end
    const char **shell_argv;        // "/bin/sh", a slot, argv[1..], NULL: for a script without #!
    const char *const *envp;
    const char *cwd;
    const char *cgroup_procs;       // NULL: none. Used where the kernel cannot start a process inside a cgroup
    const char *oom_score;          // written to oom_score_adj, so that the agent's protection is not inherited; NULL: leave
    const uint32_t *groups;
    const int32_t *fds;             // becomes descriptors 0, 1, 2 ... of the program
    int32_t fd_count;
    int32_t cgroup_fd;              // -1: none
    int32_t tty;                    // 1: descriptor 0 is a terminal and becomes the controlling one
    int32_t set_identity;
    uint32_t uid;
    uint32_t gid;
    int32_t group_count;
    int32_t drop_capabilities;
};

// What the child says to its parent, whose memory it shares: 0 where it got as far as its program.
struct failure {
    int32_t stage;
    int32_t error;
};

struct child {
    const struct sbx_spawn_request *request;
    volatile struct failure *failure;
    int join_cgroup;
};

static void fail(const struct child *child, enum stage stage, int error) {
    child->failure->error = error;
    child->failure->stage = (int32_t)stage;
    _exit(127);
}

// In a container the agent is not root, so that a change of user takes nothing away by itself. All of it goes: also what a program of root could get back (the bounding set), and what an exec would
// pass on (the ambient set).
static int drop_bounding_set(void) {
    for (int capability = 0; capability < 64; capability++) {
        // EINVAL: the kernel knows no more of them.
        if (syscall(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
            return errno == EINVAL ? 0 : errno;
        }
    }
    return 0;
}

static int drop_own_capabilities(void) {
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    static const struct __user_cap_data_struct none[2];
    // The ambient set shrinks with the others; a kernel that has no such call (gVisor's older ones) has no such set.
    syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) < 0) {
        return errno;
    }
    return syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0;
}

static void write_text(const char *path, const char *text, int *error) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        *error = errno;
        return;
    }
    *error = write(fd, text, strlen(text)) < 0 ? errno : 0;
    close(fd);
}

// Runs in the child, in the agent's memory and on a stack of its own, while the thread that started it stands still. Everything it changes is its own
// (descriptors, directory, handlers, mask) or was given to it; errno is the one of the thread that stands still. It must not return.
static int run_child(void *argument) {
    const struct child *child = argument;
    const struct sbx_spawn_request *request = child->request;
    int error = 0;

    // Handlers belong to the runtime, whose threads are not here; ignored signals would be inherited by the program. All zero is SIG_DFL. A raw call:
    // libc's version may take a lock, which would be the agent's.
    static const uint64_t defaults[8];
    for (int number = 1; number <= 64; number++) {
        syscall(SYS_rt_sigaction, number, defaults, NULL, sizeof(uint64_t));
    }

    setsid();
    if (child->join_cgroup) {
        write_text(request->cgroup_procs, "0", &error);
        if (error != 0) {
            fail(child, STAGE_CGROUP, error);
        }
    }
    if (request->oom_score != NULL) {
        // The kernel sets it for all who share the memory, except that a child of vfork gets one of its own.
        write_text("/proc/self/oom_score_adj", request->oom_score, &error);
    }

    // A source may sit where another one's target is: it goes out of the way first.
    int moved[MAX_CHILD_FDS];
    for (int i = 0; i < request->fd_count; i++) {
        moved[i] = request->fds[i] < request->fd_count ? fcntl(request->fds[i], F_DUPFD_CLOEXEC, HIGH_FD) : request->fds[i];
        if (moved[i] < 0) {
            fail(child, STAGE_FDS, errno);
        }
    }
    for (int i = 0; i < request->fd_count; i++) {
        if (dup2(moved[i], i) < 0) {
            fail(child, STAGE_FDS, errno);
        }
    }
    syscall(SYS_close_range, (unsigned)request->fd_count, ~0U, CLOSE_RANGE_CLOEXEC);

    if (request->tty && ioctl(0, TIOCSCTTY, 0) < 0) {
        fail(child, STAGE_TTY, errno);
    }

    if (request->drop_capabilities && (error = drop_bounding_set()) != 0) {
        fail(child, STAGE_IDENTITY, error);
    }
    if (request->set_identity) {
        // Raw calls: libc's versions would tell the other threads it knows, and those are the agent's. The kernel takes the right to be traced away from
        // memory whose process changes its user, so nobody can look into the agent's through this one.
        if (syscall(SYS_setgroups, (size_t)request->group_count, request->groups) < 0 ||
            syscall(SYS_setresgid, request->gid, request->gid, request->gid) < 0 ||
            syscall(SYS_setresuid, request->uid, request->uid, request->uid) < 0) {
            fail(child, STAGE_IDENTITY, errno);
        }
    }

    if (request->drop_capabilities && (error = drop_own_capabilities()) != 0) {
        fail(child, STAGE_IDENTITY, error);
    }

    if (chdir(request->cwd) < 0) {
        fail(child, STAGE_CWD, errno);
    }

    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    error = ENOENT;
    for (const char *const *candidate = request->candidates; *candidate != NULL; candidate++) {
        execve(*candidate, (char *const *)request->argv, (char *const *)request->envp);
        if (errno == ENOEXEC) {
            request->shell_argv[1] = *candidate;
            execve("/bin/sh", (char *const *)request->shell_argv, (char *const *)request->envp);
        }
        if (errno == EACCES) {
            error = EACCES;
        } else if (errno != ENOENT && errno != ENOTDIR) {
            error = errno;
            break;
        }
    }
    fail(child, STAGE_EXEC, error);
    return 127;
}

// clone3, which libc does not offer: born inside the cgroup, because moving a process into one can wait tens of milliseconds in the kernel.
// Returns the process id or -1 with errno.
static long clone_into_cgroup(struct child *child, char *stack, size_t size) {
#ifdef __x86_64__
    struct clone_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP;
    arguments.exit_signal = SIGCHLD;
    arguments.stack = (uint64_t)(uintptr_t)stack;
    arguments.stack_size = size;
    arguments.cgroup = (uint64_t)child->request->cgroup_fd;

    // The child comes out of the call with the same registers, but on a stack that holds nothing to return to.
    register int (*entry)(void *) __asm__("r12") = run_child;
    register struct child *argument __asm__("r13") = child;
    long result;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "movq %%r13, %%rdi\n\t"
                     "callq *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "0"((long)SYS_clone3), "D"(&arguments), "S"(sizeof arguments), "r"(entry), "r"(argument)
                     : "rcx", "r11", "memory", "cc");
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
#else
    (void)child;
    (void)stack;
    (void)size;
    errno = ENOSYS;
    return -1;
#endif
}

// Returns the process id, or a negated errno with *stage filled in; no process is left behind in that case.
//
// The child shares the agent's memory until it runs its program (as with vfork): a copy of it, and the faults of both on every page they write
// afterwards, cost more than all the rest, above all where the machine is emulated. The calling thread stands still until then; the others go on.
EXPORT int32_t sbx_spawn(const struct sbx_spawn_request *request, int32_t *stage) {
    *stage = STAGE_FORK;
    if (request->fd_count > MAX_CHILD_FDS) {
        return -EINVAL;
    }

    char stack[CHILD_STACK] __attribute__((aligned(16)));
    volatile struct failure failure = { 0, 0 };
    struct child child = { request, &failure, 0 };

    // No signal may run one of the runtime's handlers in the child before the child has reset them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);

    long pid = -1;
    if (request->cgroup_fd >= 0) {
        pid = clone_into_cgroup(&child, stack, sizeof stack);
    }
    if (pid < 0 && (request->cgroup_fd < 0 || (errno != EAGAIN && errno != ENOMEM))) {
        child.join_cgroup = request->cgroup_procs != NULL;
        pid = clone(run_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
    }

    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        return -error;
    }

    if (failure.stage != 0) {
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {
        }
        *stage = failure.stage;
        return -failure.error;
    }

    return (int32_t)pid;
}

struct sbx_exit {
    int32_t exit_code;
    int32_t signal;
    int64_t cpu_ms;
    int64_t peak_bytes;
};

// Waits until a child of ours ends.
EXPORT void sbx_wait(int32_t pid, struct sbx_exit *result) {
    int status = 0;
    struct rusage usage;
    memset(&usage, 0, sizeof usage);
    while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->cpu_ms = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000L + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
    result->peak_bytes = usage.ru_maxrss * 1024L;
}
