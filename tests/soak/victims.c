/*
 * Clients that are killed: victims SOCKET SCRIPT COUNT SEED. Each connects, sends the first part of
 * the script, and repeats the second one until it is killed (SIGKILL): at any moment, or at any
 * moment after the answers to the first part. Prints how many got that far.
 *
 * SCRIPT: u32 messages of the first part, u32 of the second; then for each message u32 length, u32
 * descriptor (0: none, 1: memory, 2: an eventfd), and its bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY_BYTES 0x100000
#define MESSAGES_MAX 1024
#define READY_MS 120000 /* the server may still serve the previous client */
#define RUN_SECONDS 900

static struct { uint32_t length, descriptor; const uint8_t *bytes; } messages[MESSAGES_MAX];
static uint32_t first_part, second_part;

static void die(const char *what)
{
    fprintf(stderr, "victims: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void load(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) < 0)
        die(path);
    const uint8_t *at = mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        die(path);
    memcpy(&first_part, at, 4);
    memcpy(&second_part, at + 4, 4);
    at += 8;
    if (first_part + second_part > MESSAGES_MAX) {
        errno = E2BIG;
        die(path);
    }
    for (uint32_t i = 0; i < first_part + second_part; i++) {
        memcpy(&messages[i].length, at, 4);
        memcpy(&messages[i].descriptor, at + 4, 4);
        messages[i].bytes = at + 8;
        at += 8 + messages[i].length;
    }
    close(fd);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connect");
    return fd;
}

static void say(int fd, uint32_t i, const int *descriptors)
{
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = { 0 };
    struct iovec part = { (void *)messages[i].bytes, messages[i].length };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (messages[i].descriptor > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.header), &descriptors[messages[i].descriptor], sizeof(int));
    }
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)messages[i].length)
        die("send");
}

/*
 * The rest of a message of the server, its own commands too. Its descriptors are dropped. Returns
 * whether it was a reply.
 */
static int hear(int fd)
{
    uint32_t header[4];
    char rest[4096];
    if (recv(fd, header, sizeof header, MSG_WAITALL) != sizeof header)
        die("receive");
    for (uint32_t left = header[1] - sizeof header; left > 0;) {
        ssize_t got = recv(fd, rest, left < sizeof rest ? left : sizeof rest, 0);
        if (got <= 0)
            die("receive");
        left -= got;
    }
    return (header[2] & 15) == 1;
}

static void victim(const char *path, int ready)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int descriptors[3] = { -1, memfd_create("victim", MFD_CLOEXEC), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    if (descriptors[1] < 0 || descriptors[2] < 0 || ftruncate(descriptors[1], MEMORY_BYTES) < 0)
        die("descriptors");
    volatile uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, descriptors[1], 0);
    if (memory == MAP_FAILED)
        die("mmap");
    int fd = connect_to(path);
    uint32_t answered = 0;
    for (uint32_t i = 0; i < first_part; i++)
        say(fd, i, descriptors);
    while (answered < first_part)
        answered += hear(fd);
    if (write(ready, "r", 1) != 1)
        die("ready");
    for (uint32_t round = 0;; round++) {
        for (uint32_t i = 0; i < second_part; i++) {
            say(fd, first_part + i, descriptors);
            memory[(round * 64 + i) % MEMORY_BYTES]++;
        }
        for (struct pollfd input = { fd, POLLIN, 0 }; poll(&input, 1, 0) > 0;)
            hear(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(RUN_SECONDS);
    load(argv[2]);
    long count = atol(argv[3]), got_ready = 0;
    srandom(atol(argv[4]));
    for (long i = 0; i < count; i++) {
        int ready[2];
        if (pipe2(ready, O_CLOEXEC) < 0)
            die("pipe");
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0)
            victim(argv[1], ready[1]);
        close(ready[1]);
        struct pollfd input = { ready[0], POLLIN, 0 };
        int waits = random() % 4 > 0;
        if (waits && (poll(&input, 1, READY_MS) <= 0 || !(input.revents & POLLIN))) {
            kill(pid, SIGKILL);
            fprintf(stderr, "victims: client %ld was not answered\n", i);
            return 1;
        }
        usleep(random() % 3000);
        got_ready += poll(&input, 1, 0) > 0 && (input.revents & POLLIN);
        int status;
        if (kill(pid, SIGKILL) < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
            fprintf(stderr, "victims: client %ld ended before it was killed\n", i);
            return 1;
        }
        close(ready[0]);
    }
    printf("%ld\n", got_ready);
    return 0;
}
