/**
 * Registers of QEMU's edu through the guest's own VFIO. QEMU writes down each access that reaches
 * its device, with place, width and value: the device and the kernel are not ours.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eduAccesses } from '../kernel/edu-accesses.ts';
import { type Check, tells } from './checks.ts';
import type { BootOptions } from './virtual-machine.ts';
import { scenario, type Visits } from './visits.ts';

/** Programs that run in the guest. */
export const registerPrograms = ['edu-registers', 'reaches-bars'].map((name) => join(import.meta.dirname, `../kernel/${name}.ts`));

const ACCESSES = 20_000;
/** An access as QEMU's trace has it. The edu's registers are a MiB, at a multiple of a MiB. */
const LINE = /^memory_region_ops_(read|write) .* addr 0x([0-9a-f]+) value 0x([0-9a-f]+) size (\d) name 'edu-mmio'$/gm;

/**
 * @param kernel the guest's kernel, for the title
 * @param machine a guest with Node and VFIO, whose kernel command line names its modules
 */
export async function visitRegisters(
  visits: Visits,
  kernel: string,
  machine: Omit<BootOptions, 'scenario'>,
  ways: readonly ('group' | 'cdev')[],
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-trace-'));
  const trace = join(folder, 'trace');
  try {
    const bar = ['-object', 'memory-backend-memfd,id=bar,size=1M,share=on', '-device', 'ivshmem-plain,memdev=bar,addr=5'];
    const traced = ['-trace', 'enable=memory_region_ops_read', '-trace', 'enable=memory_region_ops_write', '-D', trace];
    await visits.visit(
      `registers and BARs on Linux's VFIO, ${kernel}`,
      {
        ...machine,
        scenario: scenario('node.sh', 'registers.sh'),
        qemu: [...(machine.qemu ?? []), '-device', 'edu,addr=4', ...bar, ...traced],
        kernel: [
          ...(machine.kernel ?? []),
          'edu.bdf=0000:00:04.0',
          'bar.bdf=0000:00:05.0',
          `edu.ways=${ways.join(',')}`,
          `edu.accesses=${ACCESSES}`,
        ],
      },
      { QEMU: [tracedCheck(trace, ways)], ...Object.fromEntries(ways.map((way) => [way, checksOf(way)])) },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checksOf(way: 'group' | 'cdev'): Check[] {
  return [
    tells('gives the values of the registers', way, { 'accesses.output': '{"wrong":0}' }),
    tells('maps a BAR of another device for DMA', way, {
      'peer.output': '{"references":2,"value":2271560481,"kept":1,"left":0,"leaked":0}',
    }),
  ];
}

/** The accesses of one program for each way, then those of the drivers that do the DMA. */
function tracedCheck(trace: string, ways: readonly string[]): Check {
  return {
    title: `each of ${ACCESSES} loads and stores reached the device once, with its width and value, in order, by ${ways.join(' and ')}`,
    run() {
      const text = readFileSync(trace, 'utf8');
      const seen = [...text.matchAll(LINE)].map(
        ([, op, address, value, size]) => `${op} ${(Number.parseInt(address!, 16) & 0xf_ffff).toString(16)} ${value} ${size}`,
      );
      const expected = [...eduAccesses(ACCESSES)].map(
        ({ op, offset, width, value }) => `${op} ${offset.toString(16)} ${value.toString(16)} ${width}`,
      );
      let at = 0;
      for (const way of ways) {
        at = seen.indexOf(expected[0]!, at);
        const found = at < 0 ? [] : seen.slice(at, at + expected.length);
        const wrong = expected.findIndex((access, i) => found[i] !== access);
        if (wrong >= 0) throw new Error(`access ${wrong} by ${way} is ${found[wrong] ?? 'missing'}, should be ${expected[wrong]}`);
        at += expected.length;
      }
    },
  };
}
