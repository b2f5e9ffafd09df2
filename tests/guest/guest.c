/*
 * Runs inside the guest and prints facts about an educational device (docs/specs/edu.rst of QEMU),
 * one a line: "@ SUBJECT KEY VALUE". The host judges them.
 *
 *   guest bar SUBJECT BDF                loads and stores through sysfs' mapping of BAR 0
 *   guest physical SUBJECT BDF           DMA to physical addresses: for a guest without an IOMMU
 *   guest hold SUBJECT BDF GROUP ROUND   opens the device, maps memory, enables an interrupt, stays
 *   guest card SUBJECT BDF GROUP ROUND   drives the device of card.ts: MSI-X, BAR memory, FLR
 *   guest drive SUBJECT BDF GROUP ROUND  a user-level driver on the guest kernel's vfio-pci; keys
 *                                        begin with ROUND
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define BAR_SIZE 0x100000
#define PAGE 4096

enum { ID = 0x00, LIVENESS = 0x04, FACTORIAL = 0x08, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_RAISE = 0x60, IRQ_ACK = 0x64 };
enum { DMA_SOURCE = 0x80, DMA_DESTINATION = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98 };
enum { RUN = 1, TO_RAM = 2, INTERRUPT = 4 };
#define BUFFER 0x40000 /* the device's own memory, as its DMA registers name it */

enum { SOON = 120000, NEVER = 150 }; /* ms: something must happen, or must not */

static const char *subject, *round_name = "bar";
static volatile uint8_t *bar;

static void fact(const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("@ %s %s.%s ", subject, round_name, key);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

/* The result of a call as a fact: the number, or the name of the error. */
static long result(const char *key, long value)
{
    if (value < 0)
        fact(key, "%s", strerrorname_np(errno));
    else
        fact(key, "%ld", value);
    return value;
}

static void hex_fact(const char *key, const uint8_t *bytes, int count)
{
    char text[2 * PAGE + 1];
    for (int i = 0; i < count; i++)
        sprintf(text + 2 * i, "%02x", bytes[i]);
    fact(key, "%s", text);
}

static uint32_t load(int offset) { return *(volatile uint32_t *)(bar + offset); }
static void store(int offset, uint32_t value) { *(volatile uint32_t *)(bar + offset) = value; }
static uint64_t load64(int offset) { return *(volatile uint64_t *)(bar + offset); }
static void store64(int offset, uint64_t value) { *(volatile uint64_t *)(bar + offset) = value; }

/* Runs one transfer to its end. */
static void run_transfer(uint64_t source, uint64_t destination, uint64_t count, uint64_t command)
{
    store64(DMA_SOURCE, source);
    store64(DMA_DESTINATION, destination);
    store64(DMA_COUNT, count);
    store64(DMA_COMMAND, RUN | command);
    for (int i = 0; load(DMA_COMMAND) & RUN && i < SOON; i++)
        usleep(1000);
}

static uint32_t factorial(uint32_t n)
{
    store(FACTORIAL, n);
    for (int i = 0; load(STATUS) & 1; i++) {
        if (i == SOON)
            return 0xdeadbeef;
        usleep(1000);
    }
    return load(FACTORIAL);
}

/* The registers, by loads and stores: the same facts for each way of mapping BAR 0. */
static void registers(void)
{
    fact("id", "%#x", load(ID));
    store(LIVENESS, 0x12345678);
    fact("liveness", "%#x", load(LIVENESS));
    for (uint32_t n = 5; n <= 13; n += 4) {
        char key[32];
        sprintf(key, "factorial.%u", n);
        fact(key, "%u", factorial(n));
    }
    store(ID, 0);
    fact("id.read-only", "%#x", load(ID));
    fact("id.8-bit", "%#x", bar[ID]);
    fact("id.16-bit", "%#x", *(volatile uint16_t *)(bar + ID));
    fact("id.64-bit", "%#llx", (unsigned long long)load64(ID));
    store64(DMA_SOURCE, 0x123456789abull);
    fact("dma-source.64-bit", "%#llx", (unsigned long long)load64(DMA_SOURCE));
    fact("dma-source.low", "%#x", load(DMA_SOURCE));
    fact("dma-source.high", "%#x", load(DMA_SOURCE + 4));
    store(DMA_SOURCE, 0xfeedu);
    fact("dma-source.after-32-bit", "%#llx", (unsigned long long)load64(DMA_SOURCE));
    static const int holes[] = { 0x0c, 0x28, IRQ_RAISE, 0xa0, 0x40000, BAR_SIZE - 4 };
    for (unsigned i = 0; i < sizeof holes / sizeof *holes; i++) {
        char key[32];
        sprintf(key, "hole.%#x", holes[i]);
        fact(key, "%#x", load(holes[i]));
    }
    fact("irq-status", "%#x", load(IRQ_STATUS));
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        store(LIVENESS, i * 2654435761u);
        sum += load(LIVENESS) == ~(i * 2654435761u);
    }
    fact("liveness.2000-times", "%u right", sum);
}

static long map_resource(const char *bdf)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource0", bdf);
    int file = open(path, O_RDWR | O_SYNC);
    if (result("open", file < 0 ? -1 : 0) < 0)
        return -1;
    bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return result("mmap", bar == MAP_FAILED ? -1 : 0);
}

static int bar_command(const char *bdf)
{
    if (map_resource(bdf) < 0)
        return 1;
    fact("found.liveness", "%#x", load(LIVENESS));
    fact("found.dma-source", "%#llx", (unsigned long long)load64(DMA_SOURCE));
    registers();
    return 0;
}

/* The physical address of a touched page. @see linux/Documentation/admin-guide/mm/pagemap.rst */
static uint64_t physical_address(void *page)
{
    uint64_t entry = 0;
    int file = open("/proc/self/pagemap", O_RDONLY);
    if (pread(file, &entry, sizeof entry, (uintptr_t)page / PAGE * sizeof entry) != sizeof entry)
        entry = 0;
    close(file);
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

static int physical_command(const char *bdf)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/config", bdf);
    int config = open(path, O_RDWR);
    uint16_t command = 0x0006; /* memory decode and bus mastering */
    round_name = "physical";
    if (map_resource(bdf) < 0 || result("command", pwrite(config, &command, sizeof command, 4)) < 0)
        return 1;
    uint8_t *pages[2];
    for (int i = 0; i < 2; i++) {
        pages[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
        memset(pages[i], i, PAGE);
    }
    run_transfer(BUFFER, physical_address(pages[1]), PAGE, TO_RAM);
    int used = 0;
    for (int i = 0; i < PAGE; i++)
        used += pages[1][i] != 0;
    fact("found.buffer", "%d bytes in use", used);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < PAGE; i++)
            pages[0][i] = i * 7 + (i >> 8) + round;
        run_transfer(physical_address(pages[0]), BUFFER, PAGE, 0);
        run_transfer(BUFFER, physical_address(pages[1]), PAGE, TO_RAM);
        fact("page", "%s, command %#x", memcmp(pages[0], pages[1], PAGE) ? "differs" : "arrived", load(DMA_COMMAND));
    }
    return 0;
}

/* ---- the user-level driver ---- */

static int container, group, device, event;

static uint64_t region_offset(int index)
{
    struct vfio_region_info info = { .argsz = sizeof info, .index = index };
    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
    return info.offset;
}

static uint32_t config_read(int offset, int width)
{
    uint32_t value = 0;
    if (pread(device, &value, width, region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + offset) != width)
        return 0xdeadbeef;
    return value;
}

static long config_write(int offset, int width, uint32_t value)
{
    return pwrite(device, &value, width, region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + offset);
}

static int msi_capability(void)
{
    int hops = 48;
    for (int at = config_read(0x34, 1); at && hops--; at = config_read(at + 1, 1))
        if (config_read(at, 1) == 5)
            return at;
    return 0;
}

/* SET_IRQS of vector 0; with `with_event` the payload is the eventfd, otherwise there is none. */
static long set_irqs(int index, uint32_t action, int count, int with_event)
{
    struct {
        struct vfio_irq_set head;
        int32_t event;
    } set = { .head = { .index = index, .count = count }, .event = event };
    set.head.argsz = sizeof set.head + (with_event ? sizeof set.event : 0);
    set.head.flags = action | (with_event ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
    return ioctl(device, VFIO_DEVICE_SET_IRQS, &set.head);
}

/* How many times the eventfd was signalled within `ms`, 0 when it was not. */
static unsigned signalled(int ms)
{
    struct pollfd wait = { .fd = event, .events = POLLIN };
    uint64_t count = 0;
    if (poll(&wait, 1, ms) == 1 && read(event, &count, sizeof count) < 0)
        count = 0;
    return count;
}

static long map(const char *key, void *memory, uint64_t iova, uint64_t size, uint32_t flags)
{
    struct vfio_iommu_type1_dma_map map = { .argsz = sizeof map, .flags = flags, .vaddr = (uintptr_t)memory, .iova = iova, .size = size };
    return result(key, ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
}

static void unmap(const char *key, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof unmap, .iova = iova, .size = size };
    long status = ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap);
    result(key, status < 0 ? status : (long)unmap.size);
}

/* One transfer; prints how often it interrupted and the registers afterwards. */
static void transfer(const char *key, uint64_t source, uint64_t destination, uint64_t count, int flags)
{
    run_transfer(source, destination, count, INTERRUPT | flags);
    /* Without bus mastering no message gets out. */
    unsigned times = signalled(config_read(0x04, 2) & 4 ? SOON : NEVER);
    uint32_t status = load(IRQ_STATUS);
    store(IRQ_ACK, status);
    fact(key, "%u interrupts, status %#x, command %#x", times, status, load(DMA_COMMAND));
}

static int open_device(const char *bdf, const char *group_number)
{
    char path[64];
    container = open("/dev/vfio/vfio", O_RDWR);
    snprintf(path, sizeof path, "/dev/vfio/%s", group_number);
    group = open(path, O_RDWR);
    struct vfio_group_status status = { .argsz = sizeof status };
    ioctl(group, VFIO_GROUP_GET_STATUS, &status);
    fact("group.status", "%#x", status.flags);
    if (result("group.set-container", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container)) < 0)
        return -1;
    if (result("container.set-iommu", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) < 0)
        return -1;
    device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
    event = eventfd(0, EFD_CLOEXEC);
    return result("device.open", device < 0 ? -1 : 0);
}

static void device_info(void)
{
    struct vfio_device_info info = { .argsz = sizeof info };
    ioctl(device, VFIO_DEVICE_GET_INFO, &info);
    fact("info", "flags %#x, %u regions, %u interrupt indexes", info.flags & ~VFIO_DEVICE_FLAGS_CAPS, info.num_regions, info.num_irqs);
    for (unsigned i = 0; i < info.num_regions; i++) {
        struct vfio_region_info region = { .argsz = sizeof region, .index = i };
        char key[32];
        sprintf(key, "region.%u", i);
        if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) < 0)
            fact(key, "%s", strerrorname_np(errno));
        else
            fact(key, "flags %#x, size %#llx", region.flags & ~VFIO_REGION_INFO_FLAG_CAPS, (unsigned long long)region.size);
    }
    for (unsigned i = 0; i < info.num_irqs; i++) {
        struct vfio_irq_info irq = { .argsz = sizeof irq, .index = i };
        char key[32];
        sprintf(key, "irq.%u", i);
        if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &irq) < 0)
            fact(key, "%s", strerrorname_np(errno));
        else
            fact(key, "flags %#x, count %u", irq.flags, irq.count);
    }
}

static void config_space(void)
{
    uint8_t bytes[256];
    result("config.read", pread(device, bytes, sizeof bytes, region_offset(VFIO_PCI_CONFIG_REGION_INDEX)));
    memset(bytes + 0x10, 0, 4); /* where firmware put BAR 0 */
    bytes[0x3c] = 0;            /* and its interrupt line */
    hex_fact("config", bytes, sizeof bytes);
    uint32_t address = config_read(0x10, 4);
    config_write(0x10, 4, 0xffffffff);
    fact("config.bar0.mask", "%#x", config_read(0x10, 4));
    config_write(0x10, 4, address);
    fact("config.bar0.restored", "%s", config_read(0x10, 4) == address ? "yes" : "no");
    config_write(0x00, 4, 0);
    fact("config.ids.read-only", "%#x", config_read(0x00, 4));
    config_write(0x04, 2, 0x0006); /* memory decode and bus mastering */
    fact("config.command", "%#x", config_read(0x04, 2));
}

static void messages(void)
{
    int msi = msi_capability();
    fact("msi.capability", "%#x", msi);
    result("msi.enable", set_irqs(VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 1));
    fact("msi.control", "%#x", config_read(msi + 2, 2));
    for (int i = 0; i < 3; i++) {
        store(IRQ_RAISE, 0xab);
        unsigned times = signalled(SOON);
        fact("msi.raise", "%u interrupts, status %#x", times, load(IRQ_STATUS));
        store(IRQ_ACK, 0xab);
    }
    fact("msi.acknowledged", "status %#x", load(IRQ_STATUS));
    fact("msi.quiet", "%u interrupts", signalled(NEVER));
    store(STATUS, 0x80);
    store(FACTORIAL, 5);
    unsigned times = signalled(SOON);
    fact("msi.factorial", "%u interrupts, status %#x, %u", times, load(IRQ_STATUS), load(FACTORIAL));
    store(IRQ_ACK, load(IRQ_STATUS));
    store(STATUS, 0);
    result("msi.signal-by-hand", set_irqs(VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 0));
    fact("msi.signalled-by-hand", "%u interrupts", signalled(SOON));
}

/* Runs with MSI on: the device signals the end of a transfer. */
static void dma(void)
{
    const int rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    uint8_t *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *source = memory, *target = memory + PAGE, *other = memory + 2 * PAGE;
    for (int i = 0; i < PAGE; i++)
        source[i] = i * 7 + (i >> 8);
    map("dma.map", memory, 0x100000, 2 * PAGE, rw);
    transfer("dma.to-device", 0x100000, BUFFER, PAGE, 0);
    transfer("dma.to-ram", BUFFER, 0x101000, PAGE, TO_RAM);
    fact("dma.whole-page", "%s", memcmp(source, target, PAGE) ? "differs" : "arrived");
    memset(target, 0, PAGE);
    transfer("dma.across-pages.out", BUFFER + 16, 0x100fe3, 61, TO_RAM);
    fact("dma.across-pages", "%s", memcmp(source + 0xfe3, (uint8_t[]){ 0x70, 0x77, 0x7e }, 3) == 0 && target[31] != 0 && target[32] == 0 ? "arrived" : "differs");
    unmap("dma.unmap", 0x100000, 2 * PAGE);
    memset(target, 0x55, PAGE);
    transfer("dma.unmapped", BUFFER, 0x101000, 64, TO_RAM);
    fact("dma.unmapped.landed", "%s", target[0] == 0x55 && target[63] == 0x55 ? "no" : "yes");
    map("dma.map.other-page", other, 0x101000, PAGE, rw);
    transfer("dma.other-page.to-ram", BUFFER, 0x101000, 64, TO_RAM);
    fact("dma.other-page", "%s", other[1] == 7 && target[0] == 0x55 ? "arrived" : "differs");
    unmap("dma.unmap.other-page", 0x101000, PAGE);
    memset(other, 0x55, PAGE);
    map("dma.map.read-only", other, 0x102000, PAGE, VFIO_DMA_MAP_FLAG_READ);
    transfer("dma.read-only.to-ram", BUFFER, 0x102000, 64, TO_RAM);
    fact("dma.read-only.landed", "%s", other[0] == 0x55 && other[63] == 0x55 ? "no" : "yes");
    transfer("dma.read-only.to-device", 0x102000, BUFFER, 64, 0);
    map("dma.map.back", target, 0x103000, PAGE, rw);
    transfer("dma.read-only.back", BUFFER, 0x103000, 64, TO_RAM);
    fact("dma.read-only.read", "%s", target[0] == 0x55 && target[63] == 0x55 ? "arrived" : "differs");
    config_write(0x04, 2, 0x0002); /* bus mastering off */
    memset(target, 0, PAGE);
    transfer("dma.no-bus-master", BUFFER, 0x103000, 64, TO_RAM);
    fact("dma.no-bus-master.landed", "%s", target[0] == 0 ? "no" : "yes");
    config_write(0x04, 2, 0x0006);
    unmap("dma.unmap.all", 0, 0x104000);
}

static void pin(void)
{
    result("msi.disable", set_irqs(VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0));
    store(IRQ_RAISE, 0xab);
    store(IRQ_ACK, 0xab);
    fact("msi.disabled", "%u interrupts", signalled(NEVER));
    result("intx.enable", set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 1));
    for (int i = 0; i < 3; i++) {
        store(IRQ_RAISE, 1);
        unsigned times = signalled(SOON);
        fact("intx.raise", "%u interrupts, then %u", times, signalled(NEVER));
        set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1, 0);
        fact("intx.unmask-pending", "%u interrupts", signalled(SOON));
        store(IRQ_ACK, 1);
        result("intx.unmask", set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1, 0));
        fact("intx.quiet", "%u interrupts", signalled(NEVER));
    }
    result("intx.mask", set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_MASK, 1, 0));
    store(IRQ_RAISE, 2);
    unsigned times = signalled(NEVER);
    fact("intx.masked", "%u interrupts, status bit %u", times, config_read(0x06, 2) >> 3 & 1);
    set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1, 0);
    fact("intx.unmasked", "%u interrupts", signalled(SOON));
    store(IRQ_ACK, 2);
    set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1, 0);
    result("intx.disable", set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0));
}

static int drive_command(const char *bdf, const char *group_number)
{
    if (open_device(bdf, group_number) < 0)
        return 1;
    device_info();
    config_space();
    uint64_t bar0 = region_offset(VFIO_PCI_BAR0_REGION_INDEX);
    bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar0);
    if (result("mmap", bar == MAP_FAILED ? -1 : 0) < 0)
        return 1;
    fact("liveness.found", "%#x", load(LIVENESS));
    uint8_t bytes[16] = { 0 };
    result("pread.4", pread(device, bytes, 4, bar0));
    result("pread.16", pread(device, bytes + 4, 12, bar0));
    hex_fact("pread.bytes", bytes, sizeof bytes);
    registers();
    messages();
    dma();
    pin();
    result("reset", ioctl(device, VFIO_DEVICE_RESET));
    close(device);
    close(group);
    close(container);
    fact("end", "reached");
    return 0;
}

/* ---- the device of card.ts ---- */

enum { RING = 0x00, SUM = 0x04, FILL = 0x08, VECTORS = 4, MEMORY_SIZE = 0x10000 };

/*
 * How often each vector's eventfd was signalled. Waits for `expected`, and a little for the others.
 */
static void vectors_fact(const char *key, const int *events, int expected)
{
    char text[128] = "";
    struct pollfd wait = { .fd = expected < 0 ? -1 : events[expected], .events = POLLIN };
    poll(&wait, 1, expected < 0 ? NEVER : SOON);
    for (int i = 0; i < VECTORS; i++) {
        uint64_t count = 0;
        if (read(events[i], &count, sizeof count) < 0)
            count = 0;
        sprintf(text + strlen(text), "%s%llu", i ? " " : "", (unsigned long long)count);
    }
    fact(key, "%s", text);
}

static long set_vectors(int start, const int *events, int count)
{
    struct {
        struct vfio_irq_set head;
        int32_t events[VECTORS];
    } set = { .head = { .index = VFIO_PCI_MSIX_IRQ_INDEX, .start = start, .count = count } };
    set.head.argsz = sizeof set.head + (events ? count * sizeof *events : 0);
    set.head.flags = VFIO_IRQ_SET_ACTION_TRIGGER | (events ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
    if (events)
        memcpy(set.events, events, count * sizeof *events);
    return ioctl(device, VFIO_DEVICE_SET_IRQS, &set.head);
}

static void msix(void)
{
    int events[VECTORS];
    for (int i = 0; i < VECTORS; i++)
        events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    result("msix.enable", set_vectors(0, events, VECTORS));
    for (int i = 0; i < VECTORS; i++) {
        store(RING, i);
        vectors_fact("msix.each", events, i);
    }
    store(RING, 99);
    vectors_fact("msix.no-such-vector", events, -1);
    int none = -1;
    result("msix.disable-one", set_vectors(2, &none, 1));
    store(RING, 2);
    store(RING, 3);
    vectors_fact("msix.one-disabled", events, 3);
    result("msix.enable-one", set_vectors(2, &events[2], 1));
    for (int i = 0; i < 1000; i++)
        store(RING, i & 3);
    uint64_t total = 0;
    for (int i = 0; i < VECTORS; i++) {
        struct pollfd wait = { .fd = events[i], .events = POLLIN };
        uint64_t count = 0;
        if (poll(&wait, 1, SOON) == 1 && read(events[i], &count, sizeof count) == sizeof count)
            total += count > 0;
    }
    fact("msix.many", "%llu vectors were heard", (unsigned long long)total);
    result("msix.disable", set_vectors(0, NULL, 0));
    for (int i = 0; i < VECTORS; i++) { /* signals after those; no more come from here on */
        uint64_t rest;
        if (read(events[i], &rest, sizeof rest) < 0)
            continue; /* no signal was left */
    }
    store(RING, 1);
    vectors_fact("msix.disabled", events, -1);
}

static void bar_memory(void)
{
    volatile uint8_t *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, region_offset(VFIO_PCI_BAR2_REGION_INDEX));
    if (result("memory.mmap", memory == MAP_FAILED ? -1 : 0) < 0)
        return;
    uint32_t used = 0, sum = 0;
    for (int i = 0; i < MEMORY_SIZE; i++)
        used += memory[i] != 0;
    fact("memory.found", "%u bytes in use", used);
    for (int i = 0; i < MEMORY_SIZE; i++) {
        memory[i] = i * 13;
        sum += (uint8_t)(i * 13);
    }
    store(SUM, MEMORY_SIZE);
    fact("memory.written-by-us", "%s", load(SUM) == sum ? "the device saw it" : "differs");
    store(FILL, 0x77);
    load(FILL); /* the store has arrived when the device answers this load */
    fact("memory.written-by-it", "%s", memory[0] == 0x77 && memory[MEMORY_SIZE - 1] == 0x77 ? "we saw it" : "differs");
    uint8_t bytes[256];
    result("memory.pread", pread(device, bytes, sizeof bytes, region_offset(VFIO_PCI_BAR2_REGION_INDEX) + MEMORY_SIZE - sizeof bytes));
    fact("memory.pread.bytes", "%#x .. %#x", bytes[0], bytes[255]);
}

static int card_command(const char *bdf, const char *group_number)
{
    if (open_device(bdf, group_number) < 0)
        return 1;
    device_info();
    config_write(0x04, 2, 0x0006);
    bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device, region_offset(VFIO_PCI_BAR0_REGION_INDEX));
    if (result("mmap", bar == MAP_FAILED ? -1 : 0) < 0)
        return 1;
    bar_memory();
    msix();
    result("reset", ioctl(device, VFIO_DEVICE_RESET));
    fact("reset.register", "%#x", load(FILL));
    msix(); /* and it works as before */
    fact("end", "reached");
    return 0;
}

static int hold_command(const char *bdf, const char *group_number)
{
    if (open_device(bdf, group_number) < 0)
        return 1;
    config_write(0x04, 2, 0x0006);
    bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, region_offset(VFIO_PCI_BAR0_REGION_INDEX));
    if (result("mmap", bar == MAP_FAILED ? -1 : 0) < 0)
        return 1;
    result("msi.enable", set_irqs(VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 1));
    uint8_t *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 0x55, 4 * PAGE);
    map("dma.map", memory, 0x100000, 4 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
    transfer("dma.to-ram", BUFFER, 0x101000, 64, TO_RAM);
    /* A device after power-on has zeros. */
    fact("dma.landed", "%s", memory[PAGE] == 0 && memory[PAGE + 63] == 0 ? "yes" : "no");
    store(LIVENESS, 0); /* a reset must undo this */
    fact("holding", "liveness %#x", load(LIVENESS));
    for (;;)
        pause();
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count >= 4)
        subject = words[2];
    if (count == 4 && strcmp(words[1], "bar") == 0)
        return bar_command(words[3]);
    if (count == 4 && strcmp(words[1], "physical") == 0)
        return physical_command(words[3]);
    if (count == 6)
        round_name = words[5];
    if (count == 6 && strcmp(words[1], "drive") == 0)
        return drive_command(words[3], words[4]);
    if (count == 6 && strcmp(words[1], "card") == 0)
        return card_command(words[3], words[4]);
    if (count == 6 && strcmp(words[1], "hold") == 0)
        return hold_command(words[3], words[4]);
    fprintf(stderr, "usage: guest bar|physical SUBJECT BDF | guest hold|card|drive SUBJECT BDF GROUP ROUND\n");
    return 2;
}
