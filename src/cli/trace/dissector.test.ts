/**
 * tools/vfio-user.lua: up to date, and with the words of `vfio trace` in tshark, where that is
 * installed.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asEvents, type CapturedOptions, captureOf } from '../../../tests/kit/captured.ts';
import { samples } from '../../../tests/kit/vfio-user-samples.ts';
import { dissectorFile, withTable } from '../../../tools/vfio-user-lua.ts';
import { parseVfToken } from '../../abi/vf-token.ts';
import { Feature } from '../../abi/vfio.ts';
import { SNAP_BYTES } from '../../events/printers/pcapng.ts';
import { Command, encodeFeature, encodeMessage, encodeVersion, encodeWriteMulti } from '../../vfio-user/messages.ts';
import { describeEvent } from './describe-message.ts';

it('tools/vfio-user.lua holds the table as it is: if not, run node --import ./bin/typescript.js tools/vfio-user-lua.ts', () => {
  const file = readFileSync(dissectorFile, 'utf8');
  expect(withTable(file)).toBe(file);
});

const hasTshark = spawnSync('tshark', ['--version']).status === 0;
if (!hasTshark) console.warn('SKIPPED: tshark is not installed, so tools/vfio-user.lua was not tried (apt-get install tshark)');

describe.skipIf(!hasTshark)('tshark with tools/vfio-user.lua', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** tshark's lines about a capture of these messages. */
  function tshark(messages: readonly Uint8Array[], ...args: readonly string[]): string[] {
    return tsharkOf({ descriptors: '/memfd:x' }, messages, ...args);
  }

  function tsharkOf(options: CapturedOptions, messages: readonly Uint8Array[], ...args: readonly string[]): string[] {
    const file = join(folder, 'x.pcapng');
    writeFileSync(file, captureOf(messages, options));
    const { stdout, stderr, status } = spawnSync('tshark', ['-X', `lua_script:${dissectorFile}`, '-r', file, ...args], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    expect([status, stderr.split('\n').filter((line) => line.includes('Lua'))], stderr).toEqual([0, []]);
    return stdout.trimEnd().split('\n');
  }
  const field = (name: string) => ['-T', 'fields', '-e', name];
  const all = samples.map(({ bytes }) => bytes);

  it('the summary of each message is the line of vfio trace', () => {
    expect(tshark(all, ...field('_ws.col.Info'))).toEqual(samples.map(({ name, words }) => `${name} ${words}`.trimEnd()));
  });

  it('fields have the names of their structures, and data is data', () => {
    expect(tshark(all, '-Y', 'vfio-user.dma_map.address == 0x1000', ...field('vfio-user.dma_map.size'))).toEqual(['0x0000000000002000']);
    expect(tshark(all, '-Y', 'vfio-user.region_access.region == 7 && vfio-user.data', ...field('vfio-user.data'))).toEqual(['0301']);
    expect(tshark(all, '-Y', 'frame.comment', ...field('frame.comment'))).toEqual(['1 descriptor: /memfd:x']);
  });

  it('messages that fit no row are marked, and others are not', () => {
    const cut = encodeMessage(1000, Command.DMA_MAP, new Uint8Array(8));
    expect(tshark([...all, cut], '-Y', '_ws.malformed || vfio-user.malformed', ...field('_ws.col.Info'))).toEqual([
      '#1000 DMA_MAP malformed (8 bytes, 32 at least): [00 00 00 00 00 00 00 00]',
    ]);
  });

  it('a message that is longer than the capture keeps is described by the part that is there', () => {
    const long = encodeMessage(1, Command.REGION_WRITE, new Uint8Array(SNAP_BYTES + 16));
    expect(tshark([long], ...field('_ws.col.Info'))[0]).toBe(
      `#1 REGION_WRITE BAR0+0x0 = [00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 … ${SNAP_BYTES} bytes]`,
    );
  });

  it('messages without their data are described as in a trace without it, and are not malformed', () => {
    const long = Buffer.alloc(64, 0xa5);
    const access = Buffer.alloc(16);
    access.writeUInt32LE(64, 12);
    const write = encodeMessage(1, Command.REGION_WRITE, Buffer.concat([access, long]));
    const multi = encodeWriteMulti([{ offset: 8n, region: 0, data: long.subarray(0, 4) }]);
    const messages = [...all, write, encodeMessage(2, Command.REGION_WRITE_MULTI, multi), encodeMessage(3, 77 as Command, long)];
    const words = asEvents(messages, { data: false }).map((event) => {
      const type = event.type === 'command' ? '' : ` ${event.type}`;
      return `#${event.id} ${event.command}${type} ${describeEvent(event)}`.trimEnd();
    });
    expect(words).toContain('#1 REGION_WRITE BAR0+0x0 = [64 bytes]');
    expect(words).toContain('#3 command 77 [64 bytes]');
    expect(words.filter((line) => line.includes('malformed'))).toEqual([]);
    expect(tsharkOf({ data: false }, messages, ...field('_ws.col.Info'))).toEqual(words);
    expect(tsharkOf({ data: false }, messages, '-Y', '_ws.malformed || vfio-user.malformed', ...field('_ws.col.Info'))).toEqual(['']);
  });

  it('S3-05 a VF token in a capture of another program is not shown', () => {
    const token = parseVfToken('83d8f4f2-509f-382f-3c1e-e6bfe0fa1001')!;
    const version = encodeMessage(1, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 }, token));
    const set = encodeFeature({ feature: Feature.PCI_VF_TOKEN, get: false, set: true, probe: false, data: token });
    const shown = tshark([version, encodeMessage(2, Command.DEVICE_FEATURE, set)], '-O', 'vfio-user').join('\n');
    expect(shown).toContain(`"max_msg_fds":8,"vfio_ts_vf_token":"${'*'.repeat(36)}"`);
    expect(shown).toContain('PCI_VF_TOKEN set: a token');
    expect(shown).not.toMatch(/509f|0fa1001/);
  });
});
