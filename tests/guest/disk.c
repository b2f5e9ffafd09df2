/*
 * Runs inside the guest. Reads and writes a block device past the page cache, many commands at a
 * time, and prints the results as facts, one a line: "@ SUBJECT KEY VALUE". The host judges them.
 *
 *   disk churn SUBJECT KEY DEVICE OFFSET SIZE UNIT DEPTH COMMANDS
 *       Random reads and writes of random lengths and buffer alignments in [OFFSET, + SIZE).
 *       Compares every unit that it reads with the last write, and all of them at the end. Ends
 *       after COMMANDS; 0: at SIGTERM, and not before LEAST.
 *   disk load SUBJECT KEY DEVICE read|write random|sequential BYTES DEPTH SECONDS
 *       Prints how many such commands end within the time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 128
#define LENGTH_MAX (256 * 1024) /* of a command of churn: longer than a PRP page */
#define LEAST 300 /* commands of churn at least: a slow machine does few in a moment */
#define PAGE 4096

static const char *subject, *key;
static volatile sig_atomic_t told_to_stop;
static uint64_t random_state = 0x9e3779b97f4a7c15;

struct slot {
    struct iocb control;
    uint8_t *buffer, *data; /* data: where in the buffer the transfer begins */
    uint32_t unit, units;   /* churn: the units that it covers */
    int is_write;
};

static struct slot slots[DEPTH_MAX];
static aio_context_t context;

static void stop(int signal)
{
    (void)signal;
    told_to_stop = 1;
}

static void die(const char *what)
{
    printf("@ %s %s.failed %s: %s\n", subject, key, what, strerror(errno));
    exit(1);
}

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static int open_device(const char *path, int flags, uint64_t *size)
{
    int file = open(path, flags | O_DIRECT | O_CLOEXEC);
    if (file < 0)
        die(path);
    if (ioctl(file, BLKGETSIZE64, size) < 0)
        die("BLKGETSIZE64");
    return file;
}

static void set_up(int depth, int length)
{
    if (syscall(SYS_io_setup, depth, &context) < 0)
        die("io_setup");
    for (int i = 0; i < depth; i++) {
        slots[i].buffer = mmap(NULL, length + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (slots[i].buffer == MAP_FAILED)
            die("memory");
    }
}

static void prepare(struct slot *slot, int file, int is_write, uint64_t offset, uint64_t length)
{
    slot->is_write = is_write;
    slot->control = (struct iocb){ .aio_data = slot - slots,
                                   .aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                                   .aio_fildes = file,
                                   .aio_buf = (uintptr_t)slot->data,
                                   .aio_nbytes = length,
                                   .aio_offset = offset };
}

/* How many the kernel took: not all when the device is gone. */
static int submit(struct iocb **list, int count)
{
    int taken = 0;
    while (taken < count) {
        int done = syscall(SYS_io_submit, context, count - taken, list + taken);
        if (done < 0)
            break;
        taken += done;
    }
    return taken;
}

static int wait_for(struct io_event *events, int most)
{
    for (;;) {
        int count = syscall(SYS_io_getevents, context, 1, most, events, NULL);
        if (count >= 0)
            return count;
        if (errno != EINTR)
            die("io_getevents");
    }
}

/*
 * The content of a unit follows from its number and from how many times it was written; units that
 * were never written are not compared.
 */
static uint32_t *generations;
static uint8_t *busy;
enum { UNKNOWN = UINT32_MAX };

static void fill(uint8_t *at, uint32_t unit, uint32_t generation, int size)
{
    uint64_t word = ((uint64_t)unit << 32 | generation) * 0xbf58476d1ce4e5b9;
    for (int i = 0; i < size; i += 8) {
        memcpy(at + i, &word, 8);
        word = (word ^ word >> 29) * 0x94d049bb133111eb + 1;
    }
}

static uint64_t wrong, compared, errors;
static char first_error[32] = "none";

static void ended(struct slot *slot, int64_t result, int unit_size)
{
    uint8_t expected[PAGE];
    int64_t length = (int64_t)slot->units * unit_size;
    if (result != length) {
        if (errors++ == 0)
            snprintf(first_error, sizeof first_error, "%s", result < 0 ? strerrorname_np(-result) : "short");
        for (uint32_t u = 0; slot->is_write && u < slot->units; u++)
            generations[slot->unit + u] = UNKNOWN;
    }
    for (uint32_t u = 0; u < slot->units; u++) {
        uint32_t generation = generations[slot->unit + u];
        busy[slot->unit + u] = 0;
        if (slot->is_write || result != length || generation == 0 || generation == UNKNOWN)
            continue;
        fill(expected, slot->unit + u, generation, unit_size);
        compared++;
        if (memcmp(expected, slot->data + u * unit_size, unit_size) != 0)
            wrong++;
    }
}

/* A range of units that no command under way covers; 0 when the tried place is taken. */
static int choose(struct slot *slot, uint32_t units, uint32_t most)
{
    slot->unit = next_random() % units;
    slot->units = 1 + next_random() % (next_random() % 4 == 0 ? most : 8);
    if (slot->unit + slot->units > units)
        slot->units = units - slot->unit;
    for (uint32_t u = 0; u < slot->units; u++)
        if (busy[slot->unit + u])
            return 0;
    memset(busy + slot->unit, 1, slot->units);
    return 1;
}

static int churn(char **words)
{
    uint64_t size;
    int file = open_device(words[0], O_RDWR, &size);
    uint64_t offset = strtoull(words[1], NULL, 0), span = strtoull(words[2], NULL, 0);
    int unit_size = atoi(words[3]), depth = atoi(words[4]);
    uint64_t most = strtoull(words[5], NULL, 0), commands = 0;
    if (offset + span > size || unit_size > PAGE || depth > DEPTH_MAX)
        die("bad numbers");
    uint32_t units = span / unit_size;
    generations = calloc(units, sizeof *generations);
    busy = calloc(units, 1);
    set_up(depth, LENGTH_MAX);
    int idle[DEPTH_MAX], idle_count = 0, in_flight = 0, is_gone = 0;
    for (int i = 0; i < depth; i++)
        idle[idle_count++] = i;
    struct iocb *batch[DEPTH_MAX];
    struct io_event events[DEPTH_MAX];
    uint32_t checked = 0; /* units read again at the end */
    double started = now();
    printf("@ %s %s.started %d\n", subject, key, depth);
    fflush(stdout);
    for (;;) {
        int is_over = (told_to_stop && commands >= LEAST) || (most > 0 && commands >= most), count = 0;
        for (int tries = 0; !is_gone && idle_count > 0 && tries < 4 * DEPTH_MAX; tries++) {
            struct slot *slot = &slots[idle[idle_count - 1]];
            int is_write = next_random() & 1;
            if (is_over) {
                if (checked == units)
                    break;
                slot->unit = checked;
                slot->units = units - checked < 8 ? units - checked : 8;
                int free = 1;
                for (uint32_t u = 0; u < slot->units; u++)
                    free &= !busy[checked + u];
                if (!free)
                    break;
                memset(busy + checked, 1, slot->units);
                checked += slot->units;
                is_write = 0;
            } else if (!choose(slot, units, LENGTH_MAX / unit_size))
                continue;
            slot->data = slot->buffer + (next_random() % 4 == 0 ? next_random() % (PAGE / 4) * 4 : 0);
            for (uint32_t u = 0; is_write && u < slot->units; u++) {
                uint32_t *generation = &generations[slot->unit + u];
                *generation = *generation == UNKNOWN ? 1 : *generation + 1;
                fill(slot->data + u * unit_size, slot->unit + u, *generation, unit_size);
            }
            prepare(slot, file, is_write, offset + (uint64_t)slot->unit * unit_size, (uint64_t)slot->units * unit_size);
            batch[count++] = &slot->control;
            idle_count--;
        }
        int taken = submit(batch, count);
        in_flight += taken;
        if (taken < count) { /* the device is gone */
            if (errors++ == 0)
                snprintf(first_error, sizeof first_error, "%s", strerrorname_np(errno));
            is_gone = 1;
        }
        if (in_flight == 0)
            break;
        int done = wait_for(events, DEPTH_MAX);
        for (int i = 0; i < done; i++) {
            ended(&slots[events[i].data], events[i].res, unit_size);
            idle[idle_count++] = events[i].data;
            in_flight--;
            commands++;
        }
        is_gone |= errors > 1000;
    }
    printf("@ %s %s.commands %llu\n", subject, key, (unsigned long long)commands);
    printf("@ %s %s.compared %llu\n", subject, key, (unsigned long long)compared);
    printf("@ %s %s.wrong %llu\n", subject, key, (unsigned long long)wrong);
    printf("@ %s %s.error %s\n", subject, key, first_error);
    printf("@ %s %s.seconds %.2f\n", subject, key, now() - started);
    return 0;
}

static int load(char **words)
{
    uint64_t size;
    int is_write = strcmp(words[1], "write") == 0, is_random = strcmp(words[2], "random") == 0;
    int file = open_device(words[0], is_write ? O_RDWR : O_RDONLY, &size);
    uint64_t length = strtoull(words[3], NULL, 0), commands = 0, place = 0;
    int depth = atoi(words[4]);
    double seconds = atof(words[5]);
    if (depth > DEPTH_MAX || length > size)
        die("bad numbers");
    set_up(depth, length);
    struct iocb *batch[DEPTH_MAX];
    struct io_event events[DEPTH_MAX];
    int count = 0, in_flight = 0;
    for (int i = 0; i < depth; i++) {
        slots[i].data = slots[i].buffer;
        events[count++].data = i;
    }
    double started = now(), at = started;
    while (count > 0 || in_flight > 0) {
        int submitted = 0;
        for (int i = 0; i < count && at - started < seconds; i++) {
            struct slot *slot = &slots[events[i].data];
            uint64_t index = is_random ? next_random() % (size / length) : place++ % (size / length);
            prepare(slot, file, is_write, index * length, length);
            batch[submitted++] = &slot->control;
        }
        if (submit(batch, submitted) < submitted)
            die("io_submit");
        in_flight += submitted;
        if (in_flight == 0)
            break;
        count = wait_for(events, DEPTH_MAX);
        in_flight -= count;
        commands += count;
        for (int i = 0; i < count; i++) {
            if (events[i].res != (int64_t)length) {
                errno = events[i].res < 0 ? -events[i].res : EIO;
                die("a command");
            }
        }
        at = now();
    }
    printf("@ %s %s %.0f\n", subject, key, commands / (now() - started));
    return 0;
}

int main(int count, char **words)
{
    if (count < 4)
        return 2;
    subject = words[2];
    key = words[3];
    struct sigaction action = { .sa_handler = stop };
    sigaction(SIGTERM, &action, NULL);
    if (strcmp(words[1], "churn") == 0 && count == 10)
        return churn(words + 4);
    if (strcmp(words[1], "load") == 0 && count == 10)
        return load(words + 4);
    return 2;
}
