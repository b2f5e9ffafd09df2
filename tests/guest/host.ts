/**
 * A guest whose administrator lists, binds and restores devices: QEMU's, in groups that the guest's
 * kernel makes.
 */
import { MY_DRIVER, realDeviceCommands, typedAs } from '../kit/readme-commands.ts';
import type { Check } from './checks.ts';
import { tells } from './checks.ts';
import type { DiskTools } from './disk-tools.ts';
import type { Facts } from './facts.ts';
import { NodeDisk } from './node-disk.ts';
import { scenario, type Visits } from './visits.ts';

const EDU = '0000:00:04.0';
const ALONE = '0000:01:00.0';
/** Two functions of one card without ACS between them: one group. */
const PAIR = ['0000:02:00.0', '0000:02:00.1'] as const;
/** The device of README's commands. */
const README = '0000:03:00.0';
/** The disk with Node, which is mounted. */
const DISK = '0000:00:1e.0';

const port = (id: string, slot: number) => ['-device', `pcie-root-port,id=${id},chassis=${slot},addr=${slot}`];
const nvme = (id: string, words: string) => [
  ...['-drive', `driver=null-co,size=64M,if=none,id=${id}`],
  ...['-device', `nvme,drive=${id},serial=${id},${words}`],
];

export async function visitHost(visits: Visits, tools: DiskTools): Promise<void> {
  using disk = await NodeDisk.make(tools, []);
  await visits.visit(
    'an administrator binds and restores devices of a guest',
    {
      iommu: true,
      memory: '512M',
      entries: visits.tools.modules('node', ['virtio_blk']),
      scenario: `${scenario('node.sh', 'host.sh')}\n${readmeScenario()}`,
      qemu: [
        ...disk.qemuDevice,
        ...['-device', 'edu,addr=4'],
        ...port('a', 5),
        ...port('b', 6),
        ...nvme('n1', 'bus=a'),
        ...nvme('n2', 'bus=b,addr=0.0,multifunction=on'),
        ...nvme('n3', 'bus=b,addr=0.1'),
        ...port('c', 7),
        ...nvme('n4', 'bus=c'),
      ],
      kernel: ['vfio.modules=order', `host.devices=${EDU},${PAIR[1]}`, `host.pair=${PAIR[0]}`, `host.disk=${DISK}`],
    },
    {
      ls: listChecks,
      doctor: [
        tells('finds one problem, with exit status 3', 'doctor', { 'computer.status': '3' }),
        includes('the problem has its remedy', 'doctor', 'computer.output', `fix: sudo vfio bind ${PAIR[0]}`),
        includes('interrupts are remapped', 'doctor', 'computer.output', 'the IOMMU remaps interrupts'),
      ],
      [EDU]: bindChecks(EDU, [EDU], 'no driver'),
      [PAIR[1]]: bindChecks(PAIR[1], PAIR, 'nvme'),
      steps: [eachStep],
      refused: [
        tells('the mounted disk stays, with exit status 4', 'refused', { 'bind.status': '4', undone: 'yes' }),
        includes('the reason is named', 'refused', 'bind.output', 'it holds / (ext4)'),
      ],
      readme: readmeChecks,
    },
  );
}

/** README's commands, as root types them; the guest's Node runs JavaScript only. */
function readmeScenario(): string {
  const driver = '/tmp/my-driver.mjs';
  const typed = realDeviceCommands().map((line, i) => `ran readme ${i} ${typedAs(line, { vfio: 'vfio', user: '0', driver })}`);
  // Version 20 of Node has no `using`.
  const code = MY_DRIVER.replace('using dev', 'const dev').replace('dev.name);', 'dev.name);\n  dev.close();');
  return [`cat >${driver} <<'END'`, `${code}END`, ...typed, 'trouble'].join('\n');
}

const readmeChecks: readonly Check[] = [
  tells(
    'the commands of "Drive a real device" end well',
    'readme',
    Object.fromEntries(realDeviceCommands().map((_, i) => [`${i}.status`, '0'])),
  ),
  includes('ls shows the device', 'readme', '1.output', README),
  includes('bind takes it from nvme', 'readme', '2.output', `${README}  nvme -> vfio-pci`),
  includes("our driver lists QEMU's disk", 'readme', '4.output', 'QEMU NVMe Ctrl'),
  includes('a driver of the user runs', 'readme', '5.output', `mine: ${README}`),
  includes('restore gives it back', 'readme', '6.output', `${README}  vfio-pci -> nvme`),
];

interface Listed {
  readonly functions: readonly { readonly bdf: string; readonly state: string; readonly driver: string | null }[];
  readonly groups: readonly { readonly id: number; readonly functions: readonly string[]; readonly safe: boolean }[];
}
const listed = (facts: Facts) => JSON.parse(facts.get('ls', 'json')) as Listed;

const listChecks: readonly Check[] = [
  {
    title: 'prints the groups of the kernel',
    run(facts) {
      const groups = listed(facts).groups.map(({ id, functions }) => [id, ...functions].join(' '));
      const recorded = facts.get('ls', 'recorded').split('\n');
      if (groups.sort().join('\n') !== recorded.sort().join('\n'))
        throw new Error(`${groups.join('; ')}, should be ${recorded.join('; ')}`);
    },
  },
  {
    title: 'says which devices are free, and that the mounted disk is needed',
    run(facts) {
      const states = new Map(listed(facts).functions.map(({ bdf, state }) => [bdf, state]));
      const is = [EDU, ALONE, ...PAIR, DISK].map((bdf) => states.get(bdf)).join(' ');
      if (is !== 'free free free free needed') throw new Error(is);
    },
  },
];

/** The bind of a device with its group, and its restore. */
function bindChecks(bdf: string, group: readonly string[], from: string): readonly Check[] {
  return [
    tells('bind and restore end well, and leave sysfs as it was', bdf, { 'bind.status': '0', 'restore.status': '0', undone: 'yes' }),
    ...group.flatMap((each) => [
      includes(`bind prints the change of ${each}`, bdf, 'bind.output', `${each}  ${from} -> vfio-pci`),
      includes(`vfio-pci has ${each}`, bdf, 'state', `${each} vfio-pci vfio-pci`),
      includes(`restore prints the change of ${each}`, bdf, 'restore.output', `${each}  vfio-pci -> ${from}`),
    ]),
  ];
}

const eachStep: Check = {
  title: 'a step that fails leaves sysfs as it was, whichever it is',
  run(facts) {
    const count = Number(facts.get('steps', 'count'));
    if (count !== 6) throw new Error(`the bind has ${count} steps, should have 6`);
    for (let step = 1; step <= count; step++) {
      const said = facts.get('steps', `${step}.output`);
      if (facts.get('steps', `${step}.status`) !== '1') throw new Error(`step ${step} did not fail: ${said}`);
      if (facts.get('steps', `${step}.undone`) !== 'yes') throw new Error(`step ${step}: ${facts.get('steps', `${step}.undone`)}\n${said}`);
      if (!/nothing was changed|the computer is as before/.test(said)) throw new Error(`step ${step} says: ${said}`);
    }
  },
};

function includes(title: string, subject: string, key: string, text: string): Check {
  return {
    title,
    run(facts) {
      if (!facts.get(subject, key).includes(text)) throw new Error(`${facts.get(subject, key)}\n      should include: ${text}`);
    },
  };
}
