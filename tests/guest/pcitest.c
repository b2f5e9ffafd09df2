/*
 * Runs inside a guest and prints facts about the card that Linux's pci_endpoint_test drives, one a
 * line: "@ endpoint KEY VALUE". The host judges them.
 *
 *   pcitest [KIND ...]   each of intx, msi, msix: that interrupt, transfers and doorbell by it;
 *                        bars: the memory of the BARs; subranges: their halves, after an interrupt
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* linux/pcitest.h of Linux 7.3: the host's may be older. */
#define PCITEST_BAR _IO('P', 0x1)
#define PCITEST_INTX_IRQ _IO('P', 0x2)
#define PCITEST_MSI _IOW('P', 0x3, int)
#define PCITEST_WRITE _IOW('P', 0x4, unsigned long)
#define PCITEST_READ _IOW('P', 0x5, unsigned long)
#define PCITEST_COPY _IOW('P', 0x6, unsigned long)
#define PCITEST_MSIX _IOW('P', 0x7, int)
#define PCITEST_SET_IRQTYPE _IOW('P', 0x8, int)
#define PCITEST_BARS _IO('P', 0xa)
#define PCITEST_DOORBELL _IO('P', 0xb)
#define PCITEST_BAR_SUBRANGE _IO('P', 0xc)
enum { IRQ_INTX, IRQ_MSI, IRQ_MSIX };
enum { FLAGS_USE_DMA = 1 };
struct transfer { unsigned long size; unsigned char flags; };

static int card;

static const char *outcome(long result)
{
    return result < 0 ? strerrorname_np(errno) : "ok";
}

/* The numbers from 1 to `last` that work, and the first that fails. */
static void messages(const char *kind, unsigned long request, int last)
{
    int number = 1;
    while (number <= last && ioctl(card, request, number) >= 0)
        number++;
    printf("@ endpoint %s.messages %d, then %s\n", kind, number - 1, number > last ? "no more" : strerrorname_np(errno));
}

static void transfers(const char *kind)
{
    static const unsigned long sizes[] = { 1, 2, 3, 1024, 4095, 65536, 65537, 1024000, 1024001 };
    static const struct { const char *name; unsigned long request; } ways[] = {
        { "read", PCITEST_READ }, { "write", PCITEST_WRITE }, { "copy", PCITEST_COPY },
    };
    for (unsigned w = 0; w < sizeof ways / sizeof *ways; w++) {
        for (int flags = 0; flags <= FLAGS_USE_DMA; flags++) {
            const char *worst = "ok";
            for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                struct transfer transfer = { .size = sizes[i], .flags = flags };
                const char *now = outcome(ioctl(card, ways[w].request, &transfer));
                if (strcmp(now, "ok") != 0)
                    worst = now;
            }
            printf("@ endpoint %s.%s%s %s\n", kind, ways[w].name, flags ? ".dma" : "", worst);
        }
    }
}

static void interrupts(const char *kind, int type, int last)
{
    printf("@ endpoint %s.type %s\n", kind, outcome(ioctl(card, PCITEST_SET_IRQTYPE, type)));
    if (type == IRQ_INTX)
        printf("@ endpoint intx.raised %s\n", outcome(ioctl(card, PCITEST_INTX_IRQ)));
    else
        messages(kind, type == IRQ_MSI ? PCITEST_MSI : PCITEST_MSIX, last);
    transfers(kind);
    printf("@ endpoint %s.doorbell %s\n", kind, outcome(ioctl(card, PCITEST_DOORBELL)));
}

static void bars(void)
{
    for (int bar = 0; bar < 6; bar++)
        printf("@ endpoint bar.%d %s\n", bar, outcome(ioctl(card, PCITEST_BAR, bar)));
    printf("@ endpoint bars %s\n", outcome(ioctl(card, PCITEST_BARS)));
}

/* After an interrupt type has been set. */
static void subranges(void)
{
    for (int bar = 1; bar < 6; bar++)
        printf("@ endpoint subrange.%d %s\n", bar, outcome(ioctl(card, PCITEST_BAR_SUBRANGE, bar)));
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    card = open("/dev/pci-endpoint-test.0", O_RDWR);
    if (card < 0) {
        printf("@ endpoint open %s\n", strerrorname_np(errno));
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "intx") == 0)
            interrupts("intx", IRQ_INTX, 0);
        else if (strcmp(argv[i], "msi") == 0)
            interrupts("msi", IRQ_MSI, 32);
        else if (strcmp(argv[i], "msix") == 0)
            interrupts("msix", IRQ_MSIX, 2048);
        else if (strcmp(argv[i], "bars") == 0)
            bars();
        else if (strcmp(argv[i], "subranges") == 0)
            subranges();
        else
            return 2;
    }
    printf("@ endpoint end reached\n");
    return 0;
}
