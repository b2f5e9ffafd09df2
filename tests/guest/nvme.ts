/** Guests that get an NVMe disk whose blocks are in images on the host. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CpioEntry } from './cpio.ts';
import { DiskImage } from './disk-image.ts';
import type { DiskTools } from './disk-tools.ts';
import { Facts } from './facts.ts';
import { imageChecks, newDiskChecks, startedFromChecks, unpluggedChecks } from './nvme-checks.ts';
import type { BootOptions, Guest } from './virtual-machine.ts';
import { scenario, type Visits } from './visits.ts';

const MIB = 2 ** 20;
const SIZES = [128 * MIB, 64 * MIB] as const;
const ROOT_PORT = ['-device', 'pcie-root-port,id=root1,chassis=1'];
const PLACE = { bus: 'root1' };
const BEHIND_IT = '0000:01:00.0';

export async function visitNvme(visits: Visits, tools: DiskTools, { speed }: { readonly speed: boolean }): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-disks-'));
  try {
    if (speed) await compareSpeed(visits, tools, folder);
    else await visitDisk(visits, tools, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function visitDisk(visits: Visits, tools: DiskTools, folder: string): Promise<void> {
  const disk = DiskImage.create(join(folder, 'disk.img'), SIZES[0], tools);
  const second = DiskImage.create(join(folder, 'second.img'), SIZES[1], tools);
  await visits.withServed(['nvme', '--image', disk.path, '--image', second.path], async (served) => {
    const machine = {
      processors: 2,
      qemu: [...ROOT_PORT, ...served.qemuDevice(PLACE)],
      kernel: [`nvme.served=${BEHIND_IT}`],
      onFact(_subject: string, key: string, value: string, guest: Guest) {
        const [asked, when] = value.split(' ');
        if (key !== 'asks' || asked !== 'allocated') return;
        guest.note('host', `allocated.${when}`, disk.allocated());
        guest.send('noted');
      },
    } satisfies Partial<BootOptions>;
    const forTheDisk: CpioEntry = {
      kind: 'file',
      path: 'install/scenario',
      bytes: Buffer.from(scenario('nvme-common.sh', 'nvme-disk.sh')),
    };
    const made = await visits.visit(
      'a new NVMe disk, in a guest with an IOMMU',
      {
        scenario: scenario('nvme-common.sh', 'nvme.sh'),
        entries: [...tools.entries, ...tools.installer(visits.tools.kernel), forTheDisk],
        iommu: true,
        ...machine,
      },
      { served: newDiskChecks('served', { model: 'vfio-ts NVMe', sizes: SIZES }) },
    );
    if (made === null) return;
    // Memory by messages: emulation keeps code that it has translated, and does not notice when
    // other processes write to shared memory.
    await visits.visit(
      'a guest that starts from the NVMe disk, whose memory is reached by messages',
      { scenario: 'disk', iommu: false, sharedMemory: false, ...machine },
      { served: startedFromChecks('served') },
    );
    await visits.visit(
      'an NVMe disk that goes while it is at work',
      { scenario: scenario('nvme-common.sh', 'nvme-unplug.sh'), entries: tools.entries, iommu: true, ...machine },
      { served: unpluggedChecks('served') },
    );
  });
  console.log('\n# the image on the host');
  visits.judge({ image: imageChecks(disk, folder) }, new Facts());
}

/**
 * Commands a second of ours and of QEMU's own controller, on equal images, in one boot. Figures
 * only: a machine with other work has others.
 */
async function compareSpeed(visits: Visits, tools: DiskTools, folder: string): Promise<void> {
  const [filled, ours, theirs] = ['filled.img', 'ours.img', 'theirs.img'].map((name) => join(folder, name)) as [string, string, string];
  DiskImage.create(filled, SIZES[0], tools).fill();
  // A copy has no holes. Writing into a hole costs the host ten times a second write, and this test
  // does not compare filesystems.
  for (const copy of [ours, theirs]) copyFileSync(filled, copy);
  await visits.withServed(['nvme', '--image', ours], async (served) => {
    const qemu = ['-drive', `file=${theirs},if=none,id=drive,format=raw`, '-device', 'nvme,serial=QEMU,drive=drive,addr=4'];
    const facts = await visits.visit(
      "our NVMe disk beside QEMU's",
      {
        scenario: scenario('nvme-common.sh', 'nvme-speed.sh'),
        entries: tools.entries,
        iommu: false,
        processors: 2,
        qemu: [...qemu, ...ROOT_PORT, ...served.qemuDevice(PLACE)],
        kernel: [`nvme.served=${BEHIND_IT}`, 'nvme.qemu=0000:00:04.0'],
      },
      {},
    );
    if (facts === null) return;
    const best = (subject: string, key: string) => Math.max(...facts.get(subject, key).split('\n').map(Number));
    console.log('commands a second, the better of two rounds:');
    for (const key of facts.keys('qemu', '')) {
      const [our, their] = [best('served', key), best('qemu', key)];
      const [what, order, size, depth] = key.split('.');
      const title = `${order} ${what}s of ${Number(size) / 1024} KiB, depth ${depth}`;
      console.log(
        `  ${title.padEnd(38)} ours ${`${our}`.padStart(6)}  QEMU's ${`${their}`.padStart(6)}  ratio ${(our / their).toFixed(2)}`,
      );
    }
  });
}
