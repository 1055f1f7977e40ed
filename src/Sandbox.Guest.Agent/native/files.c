// File work that .NET cannot do on Linux: names that are not UTF-8, trees deeper than a path may be long, files that must not be waited for.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

// A directory deeper than this is left alone: every level costs a descriptor and a stack frame.
#define MAX_DEPTH 400

static int remove_below(int parent, const char *name, int depth) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    DIR *directory = depth < MAX_DEPTH ? fdopendir(fd) : NULL;
    if (directory == NULL) {
        int error = depth < MAX_DEPTH ? errno : ELOOP;
        close(fd);
        return error;
    }

    int first_error = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int error = unlinkat(fd, entry->d_name, 0) < 0 ? errno : 0;
        if (error == EISDIR || error == EPERM) {
            int below = remove_below(fd, entry->d_name, depth + 1);
            if (below != ENOTDIR) {
                error = below;
            }
            if (error == 0) {
                error = unlinkat(fd, entry->d_name, AT_REMOVEDIR) < 0 ? errno : 0;
            }
        }
        if (error != 0 && error != ENOENT && first_error == 0) {
            first_error = error;
        }
    }
    closedir(directory);
    return first_error;
}

// Removes a file or a directory, with what is in it if asked. Links are removed and never followed. 0 or a negated errno.
EXPORT int sbx_remove(const char *path, int recursive) {
    if (unlinkat(AT_FDCWD, path, 0) == 0) {
        return 0;
    }
    int error = errno;
    if (error != EISDIR && error != EPERM) {
        return -error;
    }
    struct stat found;
    if (lstat(path, &found) == 0 && !S_ISDIR(found.st_mode)) {
        return -error;
    }
    if (recursive) {
        error = remove_below(AT_FDCWD, path, 0);
        if (error != 0) {
            return -error;
        }
    }
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR) < 0 ? -errno : 0;
}

// Opens what must be a regular file, without waiting for the other end of a pipe or waking a device. A descriptor or a negated errno.
EXPORT int sbx_open_regular(const char *path, int flags, unsigned mode) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
    if (fd < 0) {
        // A pipe without a reader, or a socket.
        return errno == ENXIO ? -EINVAL : -errno;
    }
    struct stat found;
    int error = fstat(fd, &found) < 0 ? errno : S_ISREG(found.st_mode) ? 0 : S_ISDIR(found.st_mode) ? EISDIR : EINVAL;
    if (error != 0) {
        close(fd);
        return -error;
    }
    return fd;
}

EXPORT int sbx_rename(const char *from, const char *to, int overwrite) {
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, overwrite ? 0U : 1U) < 0 ? -errno : 0;
}

EXPORT int sbx_make_directory(const char *path, unsigned mode) {
    if (mkdir(path, mode) < 0) {
        return -errno;
    }
    // The agent's umask has no say in what the host asked for.
    return chmod(path, mode) < 0 ? -errno : 0;
}

EXPORT int sbx_available(int fd) {
    int count = 0;
    return ioctl(fd, FIONREAD, &count) < 0 ? -errno : count;
}
