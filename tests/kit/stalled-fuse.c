/*
 * A file system whose file never answers some requests, like one of a peer that wants to delay its
 * readers.
 *
 *     stalled-fuse DIRECTORY OPCODE...
 *
 * DIRECTORY/file has 1 MiB of zeroes. Requests about it with one of the numbers (enum fuse_opcode:
 * 3 GETATTR, 15 READ, 17 STATFS, 25 FLUSH) get no answer until this process ends, which is when its
 * standard input ends. The process prints "ready" when the file system is mounted, and the number
 * of each request that it does not answer. It needs /dev/fuse and the right to mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_NODE = 2, SIZE = 1 << 20 };

static int device;

static void answer(uint64_t unique, int error, const void *data, size_t size) {
  static char out[65536 + sizeof(struct fuse_out_header)];
  struct fuse_out_header header = {.len = sizeof header + (error ? 0 : size), .error = -error, .unique = unique};
  memcpy(out, &header, sizeof header);
  if (!error && size > 0) memcpy(out + sizeof header, data, size);
  if (write(device, out, header.len) < 0 && errno != ENOENT) perror("answer");
}

static struct fuse_attr attributes(uint64_t node) {
  struct fuse_attr attr = {.ino = node, .mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666, .nlink = 1, .blksize = 4096};
  if (node == FILE_NODE) attr.size = SIZE, attr.blocks = SIZE / 512;
  return attr;
}

static void serve(const struct fuse_in_header *in, const void *body) {
  static const char zeroes[65536];
  switch (in->opcode) {
    case FUSE_INIT: {
      struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 65536, .max_background = 16};
      answer(in->unique, 0, &init, sizeof init);
      break;
    }
    case FUSE_LOOKUP: {
      struct fuse_entry_out entry = {.nodeid = FILE_NODE, .attr = attributes(FILE_NODE), .entry_valid = 3600};
      answer(in->unique, strcmp(body, "file") == 0 ? 0 : ENOENT, &entry, sizeof entry);
      break;
    }
    case FUSE_SETATTR:
    case FUSE_GETATTR: {
      struct fuse_attr_out attr = {.attr = attributes(in->nodeid)};
      answer(in->unique, 0, &attr, sizeof attr);
      break;
    }
    case FUSE_OPEN: {
      struct fuse_open_out open = {.fh = 1};
      answer(in->unique, 0, &open, sizeof open);
      break;
    }
    case FUSE_READ: {
      const struct fuse_read_in *read = body;
      answer(in->unique, 0, zeroes, read->size < sizeof zeroes ? read->size : sizeof zeroes);
      break;
    }
    case FUSE_STATFS: {
      struct fuse_statfs_out statfs = {.st = {.bsize = 4096, .namelen = 255}};
      answer(in->unique, 0, &statfs, sizeof statfs);
      break;
    }
    case FUSE_FLUSH:
    case FUSE_RELEASE:
      answer(in->unique, 0, NULL, 0);
      break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      break;
    default:
      answer(in->unique, ENOSYS, NULL, 0);
  }
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  char options[100];
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other", device, (int)getuid(), (int)getgid());
  if (device < 0 || mount("stalled", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
    perror(device < 0 ? "/dev/fuse" : "mount");
    return 77;
  }
  puts("ready");
  fflush(stdout);
  static char in[1 << 17];
  for (;;) {
    struct pollfd both[] = {{.fd = device, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    if (poll(both, 2, -1) < 0) break;
    if (both[1].revents != 0) break;
    ssize_t got = read(device, in, sizeof in);
    if (got < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
    if (got <= 0) break;
    const struct fuse_in_header *header = (const void *)in;
    int stalls = 0;
    for (int i = 2; i < argc; i++) stalls |= header->nodeid == FILE_NODE && atoi(argv[i]) == (int)header->opcode;
    if (stalls) {
      printf("%u\n", header->opcode);
      fflush(stdout);
    } else {
      serve(header, in + sizeof *header);
    }
  }
  umount2(argv[1], MNT_DETACH);
  return 0;
}
