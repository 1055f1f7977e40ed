// Starts one program in its own session. C and not C#, because nothing of the managed runtime works between fork and exec:
// everything the child does here is a plain system call on memory the parent prepared.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
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
};

static void fail(int report, enum stage stage, int error) {
    int32_t message[2] = { (int32_t)stage, error };
    ssize_t ignored = write(report, message, sizeof message);
    (void)ignored;
    _exit(127);
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

static void run_child(const struct sbx_spawn_request *request, int report, int join_cgroup) {
    int error = 0;

    // Handlers belong to the runtime that is not here any more; ignored signals would be inherited by the program.
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int number = 1; number <= 64; number++) {
        sigaction(number, &action, NULL);
    }

    setsid();
    if (join_cgroup) {
        write_text(request->cgroup_procs, "0", &error);
        if (error != 0) {
            fail(report, STAGE_CGROUP, error);
        }
    }
    if (request->oom_score != NULL) {
        write_text("/proc/self/oom_score_adj", request->oom_score, &error);
    }

    // All sources go out of the way first: a source may sit where another one's target is.
    int moved[MAX_CHILD_FDS];
    report = fcntl(report, F_DUPFD_CLOEXEC, HIGH_FD);
    if (report < 0) {
        _exit(127);
    }
    for (int i = 0; i < request->fd_count; i++) {
        moved[i] = fcntl(request->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
        if (moved[i] < 0) {
            fail(report, STAGE_FDS, errno);
        }
    }
    for (int i = 0; i < request->fd_count; i++) {
        if (dup2(moved[i], i) < 0) {
            fail(report, STAGE_FDS, errno);
        }
    }
    syscall(SYS_close_range, (unsigned)request->fd_count, ~0U, CLOSE_RANGE_CLOEXEC);

    if (request->tty && ioctl(0, TIOCSCTTY, 0) < 0) {
        fail(report, STAGE_TTY, errno);
    }

    if (request->set_identity) {
        // Raw calls: libc's versions would try to tell the other threads, which do not exist in this process.
        if (syscall(SYS_setgroups, (size_t)request->group_count, request->groups) < 0 ||
            syscall(SYS_setresgid, request->gid, request->gid, request->gid) < 0 ||
            syscall(SYS_setresuid, request->uid, request->uid, request->uid) < 0) {
            fail(report, STAGE_IDENTITY, errno);
        }
    }

    if (chdir(request->cwd) < 0) {
        fail(report, STAGE_CWD, errno);
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
    fail(report, STAGE_EXEC, error);
}

// Returns the process id, or a negated errno with *stage filled in; no process is left behind in that case.
EXPORT int32_t sbx_spawn(const struct sbx_spawn_request *request, int32_t *stage) {
    *stage = STAGE_FORK;
    if (request->fd_count > MAX_CHILD_FDS) {
        return -EINVAL;
    }

    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) {
        return -errno;
    }

    // No signal may run one of the runtime's handlers in the child before the child has reset them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);

    int join_by_write = request->cgroup_procs != NULL;
    long pid = -1;
    if (request->cgroup_fd >= 0) {
        // Born inside the cgroup: moving a process into one can wait tens of milliseconds in the kernel.
        struct clone_args arguments;
        memset(&arguments, 0, sizeof arguments);
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.exit_signal = SIGCHLD;
        arguments.cgroup = (uint64_t)request->cgroup_fd;
        pid = syscall(SYS_clone3, &arguments, sizeof arguments);
        join_by_write = pid < 0 && join_by_write;
    }
    if (pid < 0 && (request->cgroup_fd < 0 || (errno != EAGAIN && errno != ENOMEM))) {
        pid = syscall(SYS_clone, (unsigned long)SIGCHLD, 0, 0, 0, 0);
    }
    if (pid == 0) {
        run_child(request, report[1], join_by_write);
    }

    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return -error;
    }

    int32_t message[2] = { 0, 0 };
    ssize_t got;
    do {
        got = read(report[0], message, sizeof message);
    } while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got == (ssize_t)sizeof message) {
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {
        }
        *stage = message[0];
        return -message[1];
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
