/**
 * The programs that asked Linux 7.3 about QEMU's igb and one of its VFs, on the model of the same
 * card: their lines here are the recorded ones (tests/kernel-answers/linux-7.3/*-igb*.txt), but for
 * the differences that are listed.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import { intel82576 } from '../../src/models/82576/82576.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { TOKEN } from '../kit/sriov-rig.ts';
import { compiled, compiler, runOn } from './programs.ts';

const PF = '0000:01:00.0';

/** As QEMU's firmware placed them. */
const BARS: readonly bigint[] = [0xfe40_0000n, 0xfe42_0000n, 0xc000n, 0xfe44_0000n];

function guest(): Machine {
  const machine = new Machine(
    {
      name: 'guest',
      enableSriov: true,
      devices: [{ at: '05.0', kind: 'root-port', bus: 1, devices: [{ at: '00.0', model: intel82576() }] }],
    },
    { allocate: MemfdMemory.allocate },
  );
  const { config } = machine.function(PF);
  for (const [bar, address] of BARS.entries()) config.setBarAddress(bar, address);
  config.write(0x3c, 1, 0x0a);
  machine.bind(PF, 'vfio-pci');
  return machine;
}

function recorded(file: string): string[] {
  return readFileSync(join(import.meta.dirname, '../kernel-answers/linux-7.3', file), 'utf8')
    .trimEnd()
    .split('\n');
}

/** Lines that differ from those of QEMU's card, each for its reason. */
const allowed: readonly (readonly [RegExp, string])[] = [
  [/^020: |subsystem ids/, "QEMU's subsystem ids; Intel's are 8086:0000 (6.2.7)"],
  [/^040: |PM capabilities/, 'PMC says version 3 (9.5.1.3)'],
  [/PCIe devctl {2}/, 'error reporting can be enabled (9.5.6.5)'],
  [/^FEATURE probe.* [126789] /, "the card can be moved, and its writes logged; QEMU's cannot"],
];

/** As `allowed`, of a virtual function. */
const allowedOfVf: readonly (readonly [RegExp, string])[] = [
  ...allowed,
  [/^0[37a]0: |^cap 0x|cap(?:ability header| +pointer) /, 'MSI-X comes before PCI Express in the list (9.7.1)'],
  [/command all ones|command MEM {2}/, 'of its command register a driver sets bus mastering alone (9.7.1)'],
];

/** Groups are the machine's. Questions about capabilities come in the order of their list. */
const plain = (lines: readonly string[]) => lines.map((line) => line.replace(/^( {2}group=)\d+/, '$1N')).toSorted();

/** Lines that only one side has, without those that may differ. */
function differences(file: string, ours: readonly string[], may: readonly (readonly [RegExp, string])[]): string[] {
  const only = (whose: string, lines: readonly string[], others: readonly string[]) => {
    const left = [...others];
    return lines.flatMap((line) => {
      const at = left.indexOf(line);
      if (at >= 0) left.splice(at, 1);
      return at >= 0 || may.some(([pattern]) => pattern.test(line)) ? [] : [`${file}: ${whose}: ${line}`];
    });
  };
  const [theirLines, ourLines] = [plain(recorded(file)), plain(ours)];
  return [...only('Linux', theirLines, ourLines), ...only('ours', ourLines, theirLines)];
}

describe.skipIf(compiler === null || process.getuid!() !== 0)("Linux's answers for QEMU's igb", () => {
  it('B.1 config-igb.txt, device-igb.txt: the same for the physical function', async () => {
    using machine = guest();
    const ask = async (what: string) =>
      (await runOn(machine, compiled('asked-by', '-w', '-Wno-error'), what, String(machine.function(PF).group!.id), PF)).lines;
    expect(differences('config-igb.txt', await ask('config'), allowed)).toEqual([]);
    await machine.setNumVfs(PF, 2);
    expect(differences('device-igb.txt', await ask('device'), allowed)).toEqual([]);
  });

  it('B.1 T5 config-igbvf.txt, device-igbvf.txt: the same for a virtual function', async () => {
    using machine = guest();
    await machine.setNumVfs(PF, 2);
    const [vf] = machine.function(PF).vfs;
    const groupOf = (bdf: string) => String(machine.function(bdf).group!.id);
    const program = compiled('asked-by', '-w', '-Wno-error');
    const ask = async (what: string, bdf: string) => (await runOn(machine, program, what, groupOf(bdf), `${bdf} vf_token=${TOKEN}`)).lines;
    await ask('config', PF);
    expect(differences('config-igbvf.txt', await ask('config', vf!.bdf), allowedOfVf)).toEqual([]);
    expect(differences('device-igbvf.txt', await ask('device', vf!.bdf), allowedOfVf)).toEqual([]);
  });
});
