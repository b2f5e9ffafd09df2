/**
 * Answers of Linux 7.2 on config space of an edu and an NVMe device, compared with VirtualConfig's:
 * same bytes, same errnos.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bootedConfig, eduDeclaration, nvmeDeclaration } from '../../../tests/kit/declarations.ts';
import { CapId, Pm, PowerState } from '../../abi/pci.ts';
import { errnoOf } from '../../base/errno.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import { VirtualConfig } from './virtual-config.ts';

const answers = (file: string) =>
  readFileSync(join(import.meta.dirname, '../../../tests/kernel-answers/linux-7.2', file), 'utf8').split('\n');

function open(config: ConfigSpace): VirtualConfig {
  const pm = config.findCapability(CapId.PM);
  return new VirtualConfig(config, {
    memoryDisabled: () => {},
    intxDisable: () => {},
    setPowerState: (state) => config.writeBits(pm + Pm.CTRL, 2, state === 'D0' ? PowerState.D0 : PowerState.D3HOT, Pm.CTRL_STATE_MASK),
    functionReset: () => {
      const saved = config.save();
      config.reset();
      config.restore(saved);
    },
    msiEnabled: () => false,
    msiQueueMax: () => 0,
  });
}

function get(vconfig: VirtualConfig, offset: number, width: number): number {
  const into = new Uint8Array(width);
  vconfig.read(offset, into);
  return into.reduceRight((value, byte) => value * 256 + byte, 0);
}

function put(vconfig: VirtualConfig, offset: number, width: number, value: number): number {
  return vconfig.write(
    offset,
    Uint8Array.from({ length: width }, (_, i) => (value >>> (8 * i)) & 0xff),
  );
}

/** `-> 4` or `-> -1 EFAULT(14)`, as the lines have it. */
function attempt(call: () => number): string {
  try {
    return String(call());
  } catch (error) {
    return errnoOf(error) === 'EFAULT' ? '-1 EFAULT(14)' : `-1 ${errnoOf(error)}`;
  }
}

for (const [file, make] of [
  ['config-edu.txt', () => bootedConfig(eduDeclaration, [[0, 0xfe20_0000n]], 0xa)],
  ['config-nvme.txt', () => bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]], 0xb)],
] as const) {
  describe(`S2-43 a real kernel's answers, ${file}`, () => {
    const lines = answers(file);
    const vconfig = open(make());
    const whole = new Uint8Array(vconfig.size);
    vconfig.read(0, whole);

    it('S2-43 config space reads the same', () => {
      const dump = lines.filter((line) => /^[\da-f]{3}: /.test(line));
      expect(dump.length).toBe(16);
      for (const line of dump) {
        const at = Number.parseInt(line, 16);
        const bytes = [...whole.subarray(at, at + 16)].map((b) => b.toString(16).padStart(2, '0'));
        expect(`${line.slice(0, 4)} ${bytes.join(' ')}`).toBe(line);
      }
    });

    it('S2-43 the capability lists read the same', () => {
      const listed: string[] = [];
      if (whole.length > 256) {
        for (let at = 0x100; at !== 0; ) {
          const header = new DataView(whole.buffer).getUint32(at, true);
          const next = header >>> 20;
          listed.push(
            `extcap 0x${at.toString(16)}: id=0x${(header & 0xffff).toString(16)} ver=${(header >>> 16) & 15} next=${next === 0 ? '0' : `0x${next.toString(16)}`}`,
          );
          at = next;
        }
      }
      for (let at = whole[0x34]!; at !== 0; at = whole[at + 1]!) {
        const next = whole[at + 1]!;
        listed.push(`cap 0x${at.toString(16)}: id=0x${whole[at]!.toString(16)} next=${next === 0 ? '0' : `0x${next.toString(16)}`}`);
      }
      expect(listed).toEqual(lines.filter((line) => /^(ext)?cap /.test(line)));
    });

    it('B.8 config: reads and writes at the edges return the same', () => {
      const { size } = vconfig;
      const places: Record<string, [number, number]> = {
        [`CONFIG len 4096 (region size 0x${size.toString(16)})`]: [0, 4096],
        'CONFIG len=size': [0, size],
        'CONFIG+size': [size, 4],
        'CONFIG+size-4 len 8': [size - 4, 8],
        'CONFIG+0x3d len 5': [0x3d, 5],
        'CONFIG len 0': [0, 0],
        'CONFIG+1 len 3': [1, 3],
        'CONFIG+4096': [4096, 4],
      };
      const asked = lines.filter((line) => /^p(read|write) /.test(line));
      expect(asked.length).toBe(8);
      for (const line of asked) {
        const [, call, what] = /^p(read|write) (.*) -> /.exec(line)!;
        const [offset, count] = places[what!]!;
        const result = attempt(() =>
          call === 'read' ? vconfig.read(offset, new Uint8Array(count)) : vconfig.write(offset, new Uint8Array(count)),
        );
        expect(`p${call} ${what} -> ${result}`).toBe(line);
      }
    });

    it('S2-43 every write has the same outcome', () => {
      let asked = 0;
      for (const line of lines) {
        const cfg = /^cfg (0x[\da-f]+|\d+)\/(\d) +(.*?) +before=(\S+) write=(\S+) ret=(\S+) after=(\S+)$/.exec(line);
        if (cfg !== null) {
          const [, offset, width, what, before, write, ret, after] = cfg;
          const [at, count] = [Number(offset), Number(width)];
          const outcome = {
            what,
            before: get(vconfig, at, count),
            ret: put(vconfig, at, count, Number(write)),
            after: get(vconfig, at, count),
          };
          expect(outcome).toEqual({ what, before: Number(before), ret: Number(ret), after: Number(after) });
          asked++;
        } else if (line.includes('BAR0 read in D3hot: -1 EIO')) {
          expect(vconfig.memoryEnabled).toBe(false);
          asked++;
        }
      }
      expect(asked).toBe(lines.filter((line) => line.startsWith('cfg ') || line.includes('D3hot: ')).length);
      expect(asked).toBeGreaterThan(30);
    });
  });
}
