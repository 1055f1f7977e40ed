// fork and exec of one user process. Everything the child needs is prepared by the caller: between fork and exec only
// async-signal-safe calls are made, because other threads of the agent may hold any lock at the moment of the fork.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct sbx_spawn {
    const char *path;
    char *const *argv;
    char *const *envp;
    const char *cwd;
    const char *cgroup_procs; // NULL: stay
    const int *fds;           // become 0, 1, 2, ... of the child
    int fd_count;
    int controlling_tty; // descriptor 0 is a terminal to take
    int set_user;
    unsigned uid, gid;
    const unsigned *groups;
    int group_count;
    int protect_others; // first victim of the OOM killer
};

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    int e = errno;
    close(fd);
    errno = e;
    return n < 0 ? -1 : 0;
}

static void child(const struct sbx_spawn *s, int report) {
    int stage = 1;
    sigset_t none;
    sigemptyset(&none);
    for (int n = 1; n < 65; n++) signal(n, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (setsid() < 0) goto fail;

    stage = 2;
    if (s->cgroup_procs && put(s->cgroup_procs, "0") < 0) goto fail;
    if (s->protect_others) (void)put("/proc/self/oom_score_adj", "500");

    // Out of the way first, then down to their places, so that no target overwrites a source.
    stage = 3;
    int high[16];
    if (s->fd_count > 16) {
        errno = EINVAL;
        goto fail;
    }
    for (int i = 0; i < s->fd_count; i++)
        if ((high[i] = fcntl(s->fds[i], F_DUPFD, 64)) < 0) goto fail;
    int kept = fcntl(report, F_DUPFD_CLOEXEC, 64);
    if (kept < 0) goto fail;
    report = kept;
    for (int i = 0; i < s->fd_count; i++)
        if (dup2(high[i], i) < 0) goto fail;
    if (s->controlling_tty && ioctl(0, TIOCSCTTY, 0) < 0) goto fail;
    syscall(SYS_close_range, (unsigned)s->fd_count, (unsigned)(report - 1), 0);
    syscall(SYS_close_range, (unsigned)(report + 1), ~0U, 0);

    stage = 4;
    if (s->set_user) {
        if (setgroups((size_t)s->group_count, (const gid_t *)s->groups) < 0) goto fail;
        if (setresgid(s->gid, s->gid, s->gid) < 0) goto fail;
        if (setresuid(s->uid, s->uid, s->uid) < 0) goto fail;
    }

    stage = 5;
    if (s->cwd && chdir(s->cwd) < 0) goto fail;

    stage = 6;
    execve(s->path, s->argv, s->envp);

fail:;
    int message[2] = {stage, errno};
    (void)!write(report, message, sizeof message);
    _exit(127);
}

// Returns the child's pid, or -errno with *stage set: 1 session, 2 cgroup, 3 descriptors, 4 user, 5 directory, 6 exec, 0 fork itself.
int sbx_spawn(const struct sbx_spawn *s, int *stage) {
    int report[2];
    *stage = 0;
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;

    // No signal may run a managed handler in the child before it has reset them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        close(report[0]);
        child(s, report[1]);
    }
    int e = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return -e;
    }

    int message[2];
    ssize_t n;
    do n = read(report[0], message, sizeof message);
    while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == (ssize_t)sizeof message) {
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        *stage = message[0];
        return -message[1];
    }
    return pid;
}
