/**
 * Guests whose own VFIO drives QEMU's devices: the package runs in the guest, with Node, and is a
 * user of that kernel.
 *
 * Debian's kernel has groups. With modules that are built for it, it has iommufd and devices' own
 * files too.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import type { AnswersOfCases } from '../conformance/answers.ts';
import { BundleFolder } from '../conformance/standalone/bundle.ts';
import { answersIn } from '../conformance/standalone/results.ts';
import type { CpioEntry } from './cpio.ts';
import type { DiskTools } from './disk-tools.ts';
import { casesCheck, conformanceChecks, mttyChecks, nvmeDriverChecks, printSpeed, unplugChecks, workChecks } from './kernel-checks.ts';
import type { ModuleBuild } from './module-build.ts';
import { NodeDisk } from './node-disk.ts';
import { registerPrograms, visitRegisters } from './registers.ts';
import { vfioModules } from './vfio-modules.ts';
import type { BootOptions } from './virtual-machine.ts';
import { scenario, type Visits } from './visits.ts';

const tests = join(import.meta.dirname, '../conformance');

/** Programs of the tests that run in the guest. */
const PROGRAMS = [
  join(tests, 'kernel-cases.ts'),
  join(tests, '82576/net-cases.ts'),
  ...registerPrograms,
  ...['edu-work.ts', 'mtty-move.ts', 'twin-cases.ts'].map((name) => join(import.meta.dirname, 'programs', name)),
];

const VFIO = ['vfio', 'vfio-pci', 'vfio_iommu_type1'];
const MORE = ['iommufd', 'iommu_amdv1', 'mdev', 'mtty'];

/** A kernel whose VFIO is used. */
interface Kernel {
  readonly title: string;
  readonly entries: readonly CpioEntry[];
  /** The list of its modules, for node.sh. */
  readonly modules: 'order' | 'built';
  readonly ways: readonly ('group' | 'cdev')[];
}

/**
 * @param speed compare the speed of our NVMe driver with Linux's, and write 1 GiB; nothing else
 * @param cards also our driver on QEMU's network card, which takes minutes
 */
export async function visitKernel(
  visits: Visits,
  tools: DiskTools,
  build: ModuleBuild,
  { speed, cards }: { readonly speed: boolean; readonly cards: boolean },
): Promise<void> {
  using disk = await NodeDisk.make(tools, PROGRAMS);
  const all = kernels(visits, build);
  const last = all.at(-1)!;
  if (speed) return await visitNvmeDriver(visits, tools, disk, last, { megabytes: 1024, seconds: 20 });
  await visitConformance(visits, disk, all);
  await visits.visit(
    `drivers at work on edu, killed, and with their device removed, ${last.title}`,
    {
      ...machine(visits, disk, last),
      scenario: scenario('node.sh', 'work.sh'),
      qemu: [
        ...[...disk.qemuDevice, '-device', 'edu,addr=4'],
        ...['-device', 'pcie-root-port,id=hot,chassis=1,addr=7', '-device', 'edu,id=card,bus=hot'],
      ],
      kernel: [`vfio.modules=${last.modules}`, 'edu.bdf=0000:00:04.0', 'hot.bdf=0000:01:00.0', `edu.ways=${last.ways.join(',')}`],
      onFact(subject, key, value, guest) {
        if (subject === 'unplugged' && key === 'pull') guest.monitor(`device_del ${value}`);
      },
    },
    {
      unplugged: unplugChecks,
      ...Object.fromEntries(last.ways.map((way) => [way, workChecks(way)])),
      ...(last.modules === 'built' ? { mtty: mttyChecks } : {}),
    },
  );
  await visits.visit(
    `two functions on one bus, ${last.title}`,
    {
      ...machine(visits, disk, last),
      scenario: scenario('node.sh', 'twins.sh'),
      qemu: [
        ...[...disk.qemuDevice, '-device', 'pcie-root-port,id=twins,slot=1,addr=6'],
        ...['-device', 'nvme,serial=A,bus=twins,addr=0.0,multifunction=on', '-device', 'nvme,serial=B,bus=twins,addr=0.1'],
      ],
      kernel: [`vfio.modules=${last.modules}`, `twins.ways=${last.ways.join(',')}`],
    },
    Object.fromEntries(
      last.ways.map((way) => [way, [casesCheck(way, 'dynamic vectors, low power, resets of device and bus, dma-bufs', 5)]]),
    ),
  );
  if (cards) await visitCards(visits, disk, last);
  await visitNvmeDriver(visits, tools, disk, last, { megabytes: 64, seconds: 2 });
}

/** Our driver of the 82576 on two of QEMU's cards, and on virtual functions of the first one. */
async function visitCards(visits: Visits, disk: NodeDisk, kernel: Kernel): Promise<void> {
  // The newest way alone: the cases take minutes in a guest.
  const way = kernel.ways.at(-1)!;
  const card = (index: number) => [
    ...['-device', `pcie-root-port,id=port${index},chassis=${index + 1},addr=${index + 5}`],
    ...['-netdev', `hubport,id=net${index},hubid=0`, '-device', `igb,netdev=net${index},bus=port${index},mac=52:54:00:00:00:0${index + 1}`],
  ];
  await visits.visit(
    `our driver on QEMU's igb and its virtual functions, ${kernel.title}`,
    {
      ...machine(visits, disk, kernel),
      scenario: scenario('node.sh', 'net-driver.sh'),
      qemu: [...disk.qemuDevice, ...card(0), ...card(1)],
      kernel: [`vfio.modules=${kernel.modules}`, `net.ways=${way}`],
    },
    { [way]: [casesCheck(way, 'passes the cases of the datasheet, but where a case names a difference', 50)] },
  );
}

async function visitConformance(visits: Visits, disk: NodeDisk, all: readonly Kernel[]): Promise<void> {
  const engine = await engineAnswers();
  for (const kernel of all) {
    await visits.visit(
      `the conformance cases on Linux's VFIO, ${kernel.title}`,
      {
        ...machine(visits, disk, kernel),
        scenario: scenario('node.sh', 'conformance.sh'),
        qemu: [...disk.qemuDevice, '-device', 'edu,addr=4'],
        kernel: [`vfio.modules=${kernel.modules}`, 'edu.bdf=0000:00:04.0', `edu.ways=${kernel.ways.join(',')}`],
      },
      Object.fromEntries(kernel.ways.map((way) => [way, conformanceChecks(way, engine)])),
    );
    const guest = { ...machine(visits, disk, kernel), kernel: [`vfio.modules=${kernel.modules}`] };
    await visitRegisters(visits, kernel.title, guest, kernel.ways);
  }
}

/** Debian's kernel as it is, and with the modules that are built for it. */
function kernels(visits: Visits, build: ModuleBuild): Kernel[] {
  const stock: Kernel = { title: "Debian's kernel as it is", entries: [], modules: 'order', ways: ['group'] };
  try {
    const entries = visits.tools.modules('built', [...VFIO, ...MORE], vfioModules(build));
    return [stock, { title: "Debian's kernel with cdev and iommufd", entries, modules: 'built', ways: ['group', 'cdev'] }];
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n*** cdev and iommufd were not tried in a guest: ${error.message} ***`);
    return [stock];
  }
}

/** A guest with Node. */
function machine(
  visits: Visits,
  disk: NodeDisk,
  kernel: Kernel,
): Pick<BootOptions, 'iommu' | 'memory' | 'qemu'> & { readonly entries: readonly CpioEntry[] } {
  return {
    iommu: true,
    memory: '512M',
    entries: [...visits.tools.modules('node', ['virtio_blk']), ...kernel.entries],
    qemu: disk.qemuDevice,
  };
}

async function engineAnswers(): Promise<AnswersOfCases> {
  using folder = new BundleFolder();
  const file = await folder.add(join(tests, 'engine-cases.ts'));
  return answersIn(spawnSync(process.execPath, [file], { encoding: 'utf8', maxBuffer: 2 ** 28 }).stdout);
}

/** Our NVMe driver on QEMU's controller, and Linux's driver on the same controller. */
async function visitNvmeDriver(
  visits: Visits,
  tools: DiskTools,
  disk: NodeDisk,
  kernel: Kernel,
  { megabytes, seconds }: { readonly megabytes: number; readonly seconds: number },
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-nvme-'));
  try {
    const image = join(folder, 'nvme.img');
    writeFileSync(image, '');
    truncateSync(image, (megabytes + 64) * 2 ** 20);
    const how = machine(visits, disk, kernel);
    const facts = await visits.visit(
      `our NVMe driver on QEMU's nvme, ${kernel.title}`,
      {
        ...how,
        scenario: scenario('node.sh', 'nvme-driver.sh'),
        processors: 2,
        entries: [...how.entries, ...tools.entries],
        qemu: [...disk.qemuDevice, '-drive', `file=${image},if=none,id=nvme,format=raw`, '-device', 'nvme,serial=QEMU,drive=nvme,addr=5'],
        kernel: [
          ...[`vfio.modules=${kernel.modules}`, 'nvme.bdf=0000:00:05.0', `nvme.ways=${kernel.ways.join(',')}`],
          ...[`nvme.megabytes=${megabytes}`, `nvme.seconds=${seconds}`],
        ],
      },
      { ours: nvmeDriverChecks(megabytes) },
    );
    if (facts !== null) printSpeed(facts);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
