/*
 * A library to preload into the server: records, in order, everything that changes files below a
 * directory, and every sync, so that a test can work out what a disk may hold after a power cut.
 *
 *   RECORD_DIR       absolute path of the directory; what is outside is not recorded
 *   RECORD_LOG       the file that receives the records, after those of processes before this one
 *   RECORD_POSITION  a file of 8 bytes that holds the number of records so far; acknowledgements
 *                    that are read before it can only depend on records that it counts
 *   RECORD_BOOT_ID   a file to be read in place of /proc/sys/kernel/random/boot_id
 *
 * Without RECORD_LOG nothing is recorded. A change and its record are made under one lock, so the
 * order of records is the order of changes. A sync covers what was recorded before it began.
 *
 * A record is a `struct header`, then the path, the second path, and the data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    CREATE = 1,   /* path: a new file */
    MKDIR = 2,    /* path: a new directory */
    UNLINK = 3,   /* path: an entry is removed, of a file or an empty directory */
    RENAME = 4,   /* path to second path */
    WRITE = 5,    /* data at offset */
    TRUNCATE = 6, /* to the length in offset */
    SYNC = 7,     /* covers the records before the number in offset */
    UNKNOWN = 8   /* a change that this library cannot describe: the test must fail */
};

struct header {
    uint32_t kind;
    uint32_t path_length;
    uint32_t second_length;
    uint32_t reserved;
    uint64_t inode;
    uint64_t offset;
    uint64_t data_length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int log_fd = -1;
static volatile uint64_t *position;
static char root[PATH_MAX];
static size_t root_length;
static const char *boot_id;
/* The process that records: what it forks has other things to do. */
static pid_t recorder;

static void fail(const char *what) {
    dprintf(2, "record.c: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static void start(void) {
    boot_id = getenv("RECORD_BOOT_ID");
    const char *log_path = getenv("RECORD_LOG");
    if (!log_path)
        return;
    const char *directory = getenv("RECORD_DIR"), *position_path = getenv("RECORD_POSITION");
    if (!directory || !position_path || strlen(directory) >= sizeof root) {
        errno = EINVAL;
        fail("RECORD_DIR and RECORD_POSITION");
    }
    strcpy(root, directory);
    root_length = strlen(root);
    int fd = syscall(SYS_openat, AT_FDCWD, position_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_ftruncate, fd, (long)sizeof *position))
        fail(position_path);
    position = (void *)syscall(SYS_mmap, NULL, sizeof *position, PROT_READ | PROT_WRITE, MAP_SHARED,
                               fd, 0L);
    if (position == MAP_FAILED)
        fail("mmap");
    syscall(SYS_close, fd);
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    fd = syscall(SYS_openat, AT_FDCWD, log_path, flags, 0600);
    if (fd < 0)
        fail(log_path);
    recorder = getpid();
    log_fd = fd;
}

static int recording(void) {
    pthread_once(&once, start);
    return log_fd >= 0 && getpid() == recorder;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int below_root(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path behind a directory descriptor and a path, when it is below the root. */
static int resolve(int directory, const char *path, char out[PATH_MAX * 2]) {
    if (path[0] == '/') {
        if (strlen(path) >= PATH_MAX)
            return 0;
        strcpy(out, path);
        return below_root(out);
    }
    char link[64];
    if (directory == AT_FDCWD)
        strcpy(link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    if (length < 0 || strlen(path) >= PATH_MAX)
        return 0;
    snprintf(out + length, PATH_MAX, "/%s", path);
    return below_root(out);
}

/* Whether a descriptor is a file or directory below the root, and its inode. */
static int tracked(int fd, uint64_t *inode) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (!below_root(path))
        return 0;
    struct stat status;
    if (fstat(fd, &status))
        return 0;
    *inode = status.st_ino;
    return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode);
}

static void append(const void *bytes, size_t length) {
    const char *from = bytes;
    while (length > 0) {
        long written = syscall(SYS_write, log_fd, from, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            fail("the log");
        from += written;
        length -= written;
    }
}

/* Appends a record; the lock is held. */
static void record(enum kind kind, uint64_t inode, uint64_t offset, const char *path,
                   const char *second, const void *data, size_t data_length) {
    int saved = errno;
    struct header header = {kind, path ? strlen(path) : 0, second ? strlen(second) : 0, 0,
                            inode, offset, data_length};
    append(&header, sizeof header);
    append(path, header.path_length);
    append(second, header.second_length);
    append(data, data_length);
    __atomic_add_fetch(position, 1, __ATOMIC_SEQ_CST);
    errno = saved;
}

static void record_unknown(const char *what) {
    pthread_mutex_lock(&lock);
    record(UNKNOWN, 0, 0, what, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
}

/* --- opening --- */

typedef int (*openat_function)(int, const char *, int, ...);

static int open_recorded(openat_function real, int directory, const char *path, int flags,
                         mode_t mode) {
    pthread_once(&once, start);
    if (boot_id && !strcmp(path, "/proc/sys/kernel/random/boot_id"))
        return real(AT_FDCWD, boot_id, flags, mode);
    char absolute[PATH_MAX * 2];
    int changes = flags & (O_CREAT | O_TRUNC);
    if (!recording() || !changes || !resolve(directory, path, absolute))
        return real(directory, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE)
        return real(directory, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before, after;
    int existed = !lstat(absolute, &before);
    int fd = real(directory, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &after)) {
        if (!existed)
            record(CREATE, after.st_ino, 0, absolute, NULL, NULL, 0);
        else if (flags & O_TRUNC)
            record(TRUNCATE, after.st_ino, 0, NULL, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list list; \
        va_start(list, last); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int openat(int directory, const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    REAL(openat);
    return open_recorded(real, directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    REAL(openat64);
    return open_recorded(real, directory, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    REAL(openat);
    return open_recorded(real, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    REAL(openat64);
    return open_recorded(real, AT_FDCWD, path, flags, mode);
}

int creat(const char *path, mode_t mode) {
    REAL(openat);
    return open_recorded(real, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode) {
    REAL(openat64);
    return open_recorded(real, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* --- writing --- */

/* Where a write without an offset goes; the lock is held. */
static off_t place(int fd) {
    struct stat status;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && !fstat(fd, &status))
        return status.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

#define WRITE_RECORDED(call, offset_before, buffer) \
    uint64_t inode; \
    if (!recording() || !tracked(fd, &inode)) \
        return call; \
    pthread_mutex_lock(&lock); \
    off_t at = offset_before; \
    ssize_t written = call; \
    if (written > 0) \
        record(WRITE, inode, at, NULL, NULL, buffer, written); \
    pthread_mutex_unlock(&lock); \
    return written

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(write);
    WRITE_RECORDED(real(fd, bytes, length), place(fd), bytes);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    REAL(pwrite);
    WRITE_RECORDED(real(fd, bytes, length, offset), offset, bytes);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    REAL(pwrite64);
    WRITE_RECORDED(real(fd, bytes, length, offset), offset, bytes);
}

/* Vectors become one write: a kernel may cut it short anywhere, so this is no other behaviour. */
static char *joined(const struct iovec *vectors, int count, size_t *length) {
    *length = 0;
    for (int i = 0; i < count; i++)
        *length += vectors[i].iov_len;
    char *bytes = malloc(*length + 1), *to = bytes;
    if (!bytes)
        fail("malloc");
    for (int i = 0; i < count; i++) {
        memcpy(to, vectors[i].iov_base, vectors[i].iov_len);
        to += vectors[i].iov_len;
    }
    return bytes;
}

ssize_t writev(int fd, const struct iovec *vectors, int count) {
    REAL(writev);
    uint64_t inode;
    if (!recording() || !tracked(fd, &inode))
        return real(fd, vectors, count);
    size_t length;
    char *bytes = joined(vectors, count, &length);
    ssize_t written = write(fd, bytes, length);
    free(bytes);
    return written;
}

ssize_t pwritev(int fd, const struct iovec *vectors, int count, off_t offset) {
    REAL(pwritev);
    uint64_t inode;
    if (!recording() || !tracked(fd, &inode))
        return real(fd, vectors, count, offset);
    size_t length;
    char *bytes = joined(vectors, count, &length);
    ssize_t written = pwrite(fd, bytes, length, offset);
    free(bytes);
    return written;
}

ssize_t pwritev64(int fd, const struct iovec *vectors, int count, off64_t offset) {
    return pwritev(fd, vectors, count, offset);
}

#define TRUNCATE_RECORDED(call) \
    uint64_t inode; \
    if (!recording() || !tracked(fd, &inode)) \
        return call; \
    pthread_mutex_lock(&lock); \
    int result = call; \
    if (!result) \
        record(TRUNCATE, inode, length, NULL, NULL, NULL, 0); \
    pthread_mutex_unlock(&lock); \
    return result

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    TRUNCATE_RECORDED(real(fd, length));
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    TRUNCATE_RECORDED(real(fd, length));
}

/* --- what cannot be described: told to the test rather than missed --- */

#define REFUSE_TRACKED(fd, what) \
    uint64_t inode; \
    if (recording() && tracked(fd, &inode)) \
    record_unknown(what)

int fallocate(int fd, int mode, off_t offset, off_t length) {
    REAL(fallocate);
    REFUSE_TRACKED(fd, "fallocate");
    return real(fd, mode, offset, length);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(fallocate64);
    REFUSE_TRACKED(fd, "fallocate64");
    return real(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length) {
    REAL(posix_fallocate);
    REFUSE_TRACKED(fd, "posix_fallocate");
    return real(fd, offset, length);
}

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    REAL(posix_fallocate64);
    REFUSE_TRACKED(fd, "posix_fallocate64");
    return real(fd, offset, length);
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                        unsigned flags) {
    REAL(copy_file_range);
    REFUSE_TRACKED(out, "copy_file_range");
    return real(in, in_offset, out, out_offset, length, flags);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    if ((protection & PROT_WRITE) && (flags & MAP_TYPE) != MAP_PRIVATE && fd >= 0) {
        REFUSE_TRACKED(fd, "mmap");
    }
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mmap(address, length, protection, flags, fd, offset);
}

int link(const char *from, const char *to) {
    REAL(link);
    char absolute[PATH_MAX * 2];
    if (recording() && resolve(AT_FDCWD, to, absolute))
        record_unknown("link");
    return real(from, to);
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    REAL(linkat);
    char absolute[PATH_MAX * 2];
    if (recording() && resolve(to_directory, to, absolute))
        record_unknown("linkat");
    return real(from_directory, from, to_directory, to, flags);
}

int truncate(const char *path, off_t length) {
    REAL(truncate);
    char absolute[PATH_MAX * 2];
    if (recording() && resolve(AT_FDCWD, path, absolute))
        record_unknown("truncate");
    return real(path, length);
}

/* --- entries of directories --- */

#define ENTRY_RECORDED(call, directory, path, kind) \
    char absolute[PATH_MAX * 2]; \
    if (!recording() || !resolve(directory, path, absolute)) \
        return call; \
    pthread_mutex_lock(&lock); \
    int result = call; \
    struct stat status = {0}; \
    if (!result) { \
        if ((kind) == MKDIR) \
            (void)!stat(absolute, &status); \
        record(kind, status.st_ino, 0, absolute, NULL, NULL, 0); \
    } \
    pthread_mutex_unlock(&lock); \
    return result

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    ENTRY_RECORDED(real(path, mode), AT_FDCWD, path, MKDIR);
}

int mkdirat(int directory, const char *path, mode_t mode) {
    REAL(mkdirat);
    ENTRY_RECORDED(real(directory, path, mode), directory, path, MKDIR);
}

int unlink(const char *path) {
    REAL(unlink);
    ENTRY_RECORDED(real(path), AT_FDCWD, path, UNLINK);
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(unlinkat);
    ENTRY_RECORDED(real(directory, path, flags), directory, path, UNLINK);
}

int rmdir(const char *path) {
    REAL(rmdir);
    ENTRY_RECORDED(real(path), AT_FDCWD, path, UNLINK);
}

static int rename_recorded(int from_directory, const char *from, int to_directory, const char *to,
                           unsigned flags) {
    char absolute[PATH_MAX * 2], second[PATH_MAX * 2];
    int from_tracked = recording() && resolve(from_directory, from, absolute);
    int to_tracked = recording() && resolve(to_directory, to, second);
    if (from_tracked != to_tracked || (to_tracked && (flags & RENAME_EXCHANGE)))
        record_unknown("a rename that is no move within the directory");
    if (!from_tracked || !to_tracked)
        return syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    if (!result)
        record(RENAME, 0, 0, absolute, second, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    return rename_recorded(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return rename_recorded(from_directory, from, to_directory, to, 0);
}

int renameat2(int from_directory, const char *from, int to_directory, const char *to,
              unsigned flags) {
    return rename_recorded(from_directory, from, to_directory, to, flags);
}

/* --- syncing; sync_file_range is none: it leaves out metadata and the device's cache --- */

#define SYNC_RECORDED(call) \
    uint64_t inode; \
    if (!recording() || !tracked(fd, &inode)) \
        return call; \
    pthread_mutex_lock(&lock); \
    uint64_t covered = *position; \
    pthread_mutex_unlock(&lock); \
    int result = call; \
    if (!result) { \
        pthread_mutex_lock(&lock); \
        record(SYNC, inode, covered, NULL, NULL, NULL, 0); \
        pthread_mutex_unlock(&lock); \
    } \
    return result

int fsync(int fd) {
    REAL(fsync);
    SYNC_RECORDED(real(fd));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    SYNC_RECORDED(real(fd));
}
