/**
 * Guests whose own VFIO drives QEMU's devices: the package runs in the guest, with Node, and is a
 * user of that kernel.
 *
 * Debian's kernel has groups. With modules that are built for it, it has iommufd and devices' own
 * files too.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import type { AnswersOfCases } from '../conformance/answers.ts';
import type { Way } from '../conformance/known-differences.ts';
import { unexplained } from '../conformance/known-differences.ts';
import { BundleFolder } from '../conformance/standalone/bundle.ts';
import { answersIn, caseResults, comparedWith } from '../conformance/standalone/results.ts';
import type { Check } from './checks.ts';
import type { CpioEntry } from './cpio.ts';
import type { DiskTools } from './disk-tools.ts';
import type { ModuleBuild } from './module-build.ts';
import { NodeDisk } from './node-disk.ts';
import { registerPrograms, visitRegisters } from './registers.ts';
import { vfioModules } from './vfio-modules.ts';
import type { BootOptions } from './virtual-machine.ts';
import { scenario, type Visits } from './visits.ts';

const tests = join(import.meta.dirname, '../conformance');

/** Programs of the tests that run in the guest. */
const PROGRAMS = [join(tests, 'kernel-cases.ts'), ...registerPrograms];

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

export async function visitKernel(visits: Visits, tools: DiskTools, build: ModuleBuild): Promise<void> {
  using disk = await NodeDisk.make(tools, PROGRAMS);
  const engine = await engineAnswers();
  for (const kernel of kernels(visits, build)) {
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
function machine(visits: Visits, disk: NodeDisk, kernel: Kernel): Pick<BootOptions, 'iommu' | 'memory' | 'entries' | 'qemu'> {
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

function conformanceChecks(via: 'group' | 'cdev', engine: AnswersOfCases): Check[] {
  const way: Way = `real ${via}`;
  return [
    {
      title: 'passes every conformance case',
      run(facts) {
        const results = caseResults(facts.get(via, 'cases.output'));
        const failed = results.filter(({ outcome }) => outcome === 'failed');
        if (failed.length > 0) throw new Error(failed.map(({ title, why }) => `${title}: ${why}`).join('\n'));
        if (results.length < 40) throw new Error(`only ${results.length} cases ran:\n${facts.get(via, 'cases.output').slice(-2000)}`);
      },
    },
    {
      title: 'gives the answers of the engine, call by call, but for the known differences',
      run(facts) {
        const wrong = unexplained(way, comparedWith(engine, facts.get(via, 'cases.output')));
        const rows = wrong.map(({ call, reference, answer }) => `${call} is ${answer}, should be ${reference}`);
        if (rows.length > 0) throw new Error(rows.join('\n      '));
      },
    },
  ];
}
