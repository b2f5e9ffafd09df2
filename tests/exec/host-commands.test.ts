/** The administrator's commands on a machine of `vfio exec`, which has the files of Linux. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type HostDocumentName, hostDocuments } from '../../src/api/host-schemas.ts';
import { loadMachine } from '../../src/api/machine.ts';
import { functionStates } from '../../src/host/function-state.ts';
import { persistentFiles } from '../../src/host/host-persist.ts';
import { FakeHost } from '../kit/fake-host.ts';
import { sriovRig, VF0 } from '../kit/sriov-rig.ts';
import { folder, runOn } from './programs.ts';

const possible = spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
if (!possible) console.warn('SKIPPED: this computer gives its users no user namespaces, so no program sees /sys of a machine');

const desktop = join(import.meta.dirname, '../../examples/machines/desktop.yaml');
const state = join(folder, 'bindings.json');
const vfio = `'${process.execPath}' '${join(import.meta.dirname, '../../bin/vfio.js')}'`;
/** Drivers and overrides of all functions, and the nodes. */
const SNAPSHOT =
  'for d in /sys/bus/pci/devices/*; do echo "$(basename $d) $(basename $(readlink $d/driver) 2>/dev/null) $(cat $d/driver_override)"; done; ls /dev/vfio';

/** Lines that a shell prints; `vfio` there is the command with a file of records of this test. */
async function typed(script: string, machine = loadMachine(desktop)) {
  using served = machine;
  rmSync(state, { force: true });
  return await runOn(served, 'sh', '-c', `vfio() { word=$1; shift; ${vfio} $word "$@" 2>&1; }\nstate='${state}'\n${script}`);
}

it.skipIf(!possible)('bind gives a whole group away, and restore leaves everything as it was', async () => {
  const { lines } = await typed(`
    before=$(${SNAPSHOT}); vfio bind 01:00.0 --state $state; vfio ls 01:00.1
    vfio restore 01:00.0 --state $state; test "$before" = "$(${SNAPSHOT})" && echo same`);
  expect(lines).toEqual([
    '0000:01:00.0  nouveau -> vfio-pci',
    '0000:01:00.1  snd_hda_intel -> vfio-pci',
    expect.stringMatching(/^group \d+: \/dev\/vfio\/\d+, \/dev\/vfio\/devices\/vfio\d+, \/dev\/vfio\/devices\/vfio\d+$/),
    expect.stringContaining('vfio restore 0000:01:00.0 undoes it'),
    expect.stringMatching(/^0000:01:00\.1 {2}\w{4}:\w{4} {2}vfio-pci {2}group \d+ {2}free/),
    '0000:01:00.0  vfio-pci -> nouveau',
    '0000:01:00.1  vfio-pci -> snd_hda_intel',
    'same',
  ]);
  expect(existsSync(state)).toBe(false);
});

it.skipIf(!possible)('the printed commands, in a shell, do what the command does', async () => {
  const { lines } = await typed(`
    vfio bind 01:00.0 --dry-run > '${folder}/plan.sh'; before=$(${SNAPSHOT}); sh -e '${folder}/plan.sh'; by_hand=$(${SNAPSHOT})
    test "$before" = "$by_hand" && echo nothing happened
    cd /sys/bus/pci; for d in 0000:01:00.0 0000:01:00.1; do echo $d > devices/$d/driver/unbind; echo > devices/$d/driver_override; echo $d > drivers_probe; done
    test "$before" = "$(${SNAPSHOT})" && echo back
    vfio bind 01:00.0 --state $state > /dev/null; test "$by_hand" = "$(${SNAPSHOT})" && echo same`);
  expect(lines).toEqual(['back', 'same']);
  expect(readFileSync(join(folder, 'plan.sh'), 'utf8').split('\n').length).toBe(7);
});

it.skipIf(!possible)('a physical function with virtual ones is refused with exit status 4', async () => {
  const { machine } = sriovRig();
  const { lines } = await typed(
    `pf=$(basename $(readlink /sys/bus/pci/devices/${VF0}/physfn) 2>/dev/null || echo 0000:01:00.0)
     echo 1 > /sys/bus/pci/devices/$pf/sriov_numvfs; vfio bind $pf --driver pci-stub --state $state; echo status $?`,
    machine,
  );
  expect(lines.at(-1)).toBe('status 4');
  expect(lines.join('\n')).toContain(`virtual functions go with its driver: ${VF0}`);
});

it.skipIf(!possible)('an address without a device, and a group without a number, are named', async () => {
  const { lines } = await typed(
    'vfio bind 01:00.5 --state $state; echo $?; vfio bind --group 77 --state $state; echo $?; vfio restore 01:00.0 --state $state; echo $?',
  );
  expect(lines).toEqual([
    'vfio: ENODEV: 0000:01:00.5 is no PCI device of this computer',
    '  fix: The same card has 0000:01:00.0, 0000:01:00.1.',
    '5',
    'vfio: ENODEV: this computer has no group 77',
    '  fix: vfio ls --groups prints the groups.',
    '5',
    expect.stringContaining('ENOENT: vfio bind has not given 0000:01:00.0 away in this boot'),
    '  fix: Name the driver that it has to have: vfio bind 0000:01:00.0 --driver DRIVER.',
    '1',
  ]);
});

it.skipIf(!possible)('the script of the rule of udev gives a bound device to vfio-pci, and leaves it there', async () => {
  const bdf = '0000:01:00.1';
  const here = new FakeHost({ [bdf]: { driver: 'snd_hda_intel' } });
  const [file] = persistentFiles(here, functionStates(here), 'vfio-pci');
  const script = /-c '(.*)'"$/m.exec(file!.text)![1]!;
  writeFileSync(join(folder, 'rule.sh'), script.replaceAll('$$', '$'));
  const { lines } = await typed(`
    echo vfio-pci > /sys/bus/pci/devices/${bdf}/driver_override
    for i in 1 2; do sh '${folder}/rule.sh' 2>/dev/null; basename $(readlink /sys/bus/pci/devices/${bdf}/driver); done`);
  expect(lines).toEqual(['vfio-pci', 'vfio-pci']);
});

/** The document that a command prints, checked against its schema. */
function documentOf(name: HostDocumentName, text: string): unknown {
  const result = hostDocuments[name].safeParse(JSON.parse(text));
  expect([name, result.error?.issues ?? []]).toEqual([name, []]);
  return result.data;
}

it.skipIf(!possible)('documents have the forms of their schemas', async () => {
  const commands = {
    ls: 'vfio ls',
    doctor: 'vfio doctor 01:00.0',
    bind: 'vfio bind 01:00.0 --state $state',
    grant: 'vfio grant 01:00.0 --user 0',
    restore: 'vfio restore --all --state $state',
  } as const;
  const { lines } = await typed(
    `vfio bind 01:00.0 --dry-run --json; echo ---; ${Object.values(commands)
      .map((each) => `${each} --json`)
      .join('; echo ---; ')}`,
  );
  const [dry, ...texts] = lines.join('\n').split('\n---\n');
  expect(documentOf('bind', dry!)).toMatchObject({
    dryRun: true,
    changed: [],
    commands: expect.arrayContaining([expect.stringMatching(/^echo /)]),
  });
  const documents = (Object.keys(commands) as HostDocumentName[]).map((name, i) => documentOf(name, texts[i]!));
  expect(documents.length).toBe(5);
  expect(documents[2]).toMatchObject({ changed: [{ to: 'vfio-pci' }, { to: 'vfio-pci' }] });
});

it.skipIf(!possible)(
  'an address without a device ends ls and doctor with exit status 5, and a name that no driver has is usage',
  async () => {
    const { lines } = await typed(
      'for word in ls doctor; do vfio $word 01:00.5 | head -1; vfio $word 01:00.5 > /dev/null; echo $?; done; vfio bind 01:00.0 --driver ../x > /dev/null; echo $?',
    );
    const gone = 'vfio: ENODEV: 0000:01:00.5 is no PCI device of this computer';
    expect(lines).toEqual([gone, '5', gone, '5', '2']);
  },
);
