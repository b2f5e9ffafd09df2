/**
 * `vfio net …` as a user runs it: two cards on a cable behind sockets, a card in the same process,
 * and a card with tenants.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FrameCapture } from '../src/base/frame-capture.ts';
import { framesOf } from '../src/base/frame-file.ts';
import { main } from '../src/cli/main.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { TOKEN } from './kit/sriov-rig.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const MACS = ['52:54:00:00:00:0a', '52:54:00:00:00:0b'] as const;
let folder: string;
let served: VfioProcess;
let cards: readonly [string, string];

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

const bytesOf = (hex: string) => Buffer.from(hex.replaceAll(/[\s:]/g, ''), 'hex');
/** Who has 10.0.0.1? */
const arp = (from: string, ip = '0a000001') => `ffffffffffff ${from} 0806 0001080006040001 ${from} 0a000002 000000000000 ${ip}`;

/** The frames that arrive at `address` while `act` works. */
async function captured(address: string, act: () => Promise<void>, ...more: string[]): Promise<Buffer[]> {
  const path = join(folder, 'captured.pcapng');
  await using capture = new VfioProcess(['net', 'capture', address, '--output', path, '--seconds', '150', ...more]);
  await capture.says('captures to');
  await act();
  expect(await capture.ended, capture.stderr).toBe(0);
  return framesOf(readFileSync(path), path).map(({ bytes }) => Buffer.from(bytes));
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  const devices = MACS.map((mac) => `82576,wire=cable:lan,mac=${mac}`);
  served = new VfioProcess(['serve', ...devices, '--socket-path', folder]);
  await served.says('listening at');
  cards = [`unix:${join(folder, '82576.sock')}`, `unix:${join(folder, '82576-2.sock')}`];
});

afterAll(async () => {
  await served[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

describe('vfio net list', () => {
  it('house: a card a line, under one head; --json is one document', async () => {
    const { status, out } = await vfio('net', 'list', 'sim:82576,mac=52:54:00:00:00:01', '--wait', '0.01');
    expect(status).toBe(0);
    const lines = out.split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^Address +Function +MAC +Link +Interrupts +VFs +Received +Sent$/);
    expect(lines[2]).toMatch(/^sim:82576,mac=52:54:00:00:00:01 +physical +52:54:00:00:00:01 +down +msix, 2 +0 +0 +0$/);
    const { ports } = JSON.parse((await vfio('net', 'list', 'sim:82576', '--wait', '0.01', '--json')).out);
    expect(ports).toMatchObject([{ address: 'sim:82576', function: 'physical', speed: 0, vfs: 0 }]);
  });

  it('house: a device that is no network card is refused, with what the driver is for', async () => {
    const { status, out, err } = await vfio('net', 'list', 'sim:edu');
    expect([status, out]).toEqual([1, '']);
    expect(err).toMatch(/ENXIO.*1234:11e8[\s\S]*82576/);
  });
});

describe('vfio net send and capture', () => {
  it('house: frames of a file arrive as they are, and --count begins it anew', async () => {
    const frames = [60, 300, 1514].map((length, i) => {
      const frame = Buffer.alloc(length, i + 1);
      bytesOf(`${MACS[1]} ${MACS[0]} 88b5`).copy(frame);
      return frame;
    });
    const file = join(folder, 'frames.pcapng');
    const capture = new FrameCapture('test', [{ name: 'x' }]);
    writeFileSync(file, Buffer.concat([...capture.begin(), ...frames.map((frame) => capture.frame(frame, 5n))]));
    const arrived = await captured(
      cards[1],
      async () => {
        const { status, err } = await vfio('net', 'send', cards[0], '--input', file, '--count', '5');
        expect([status, err]).toEqual([0, expect.stringMatching(/^5 frames sent, 2,234 bytes in /)]);
      },
      '--count',
      '5',
    );
    expect(arrived.map((frame) => frame.toString('hex'))).toEqual([0, 1, 2, 0, 1].map((i) => frames[i]!.toString('hex')));
  });

  it('house: generated frames have numbers; those for another station arrive with --promiscuous alone', async () => {
    const send = (...more: string[]) => vfio('net', 'send', cards[0], '--size', '128', ...more);
    const other = '52:54:00:00:00:77';
    const arrived = await captured(
      cards[1],
      async () => {
        expect((await send('--to', other)).status).toBe(0);
        expect((await send('--count', '3')).status).toBe(0);
      },
      '--count',
      '3',
    );
    expect(arrived.map((frame) => [frame.length, frame.subarray(0, 6).toString('hex'), frame.readUInt32BE(42)])).toEqual(
      [0, 1, 2].map((number) => [124, 'ffffffffffff', number]),
    );
    const all = await captured(cards[1], async () => void (await send('--to', other)), '--count', '1', '--promiscuous');
    expect(all.map((frame) => frame.subarray(0, 6).toString('hex'))).toEqual([other.replaceAll(':', '')]);
  });

  it('house: a broken file is refused before the card is touched', async () => {
    const path = join(folder, 'broken.pcap');
    writeFileSync(path, 'no capture, but some text');
    const { status, err } = await vfio('net', 'send', 'unix:/nowhere.sock', '--input', path);
    expect([status, err]).toEqual([1, expect.stringContaining('broken.pcap is no capture')]);
  });
});

describe('vfio net echo', () => {
  it('house: answers ARP and ping for its address, and sends a datagram back', async () => {
    await using echo = new VfioProcess(['net', 'echo', cards[0], '--ip', '10.0.0.1', '--count', '2', '--seconds', '150']);
    await echo.says(`${MACS[0]} answers for 10.0.0.1`);
    const [own, peer] = MACS.map((mac) => mac.replaceAll(':', ''));
    const path = join(folder, 'request.pcapng');
    const capture = new FrameCapture('test', [{ name: 'x' }]);
    const datagram = Buffer.concat([
      bytesOf(`${own} ${peer} 0800 4500002c00000000 4011 0000 0a000002 0a000001 3039 0009 0018 0000`),
      Buffer.alloc(18),
    ]);
    const frames = [bytesOf(arp(peer!, '0a000009')), bytesOf(arp(peer!)), datagram];
    writeFileSync(path, Buffer.concat([...capture.begin(), ...frames.map((frame) => capture.frame(frame, 5n))]));
    expect((await vfio('net', 'send', cards[1], '--input', path)).status).toBe(0);
    expect(await echo.ended, echo.stderr).toBe(0);
    expect(echo.stdout).toBe('answered 1 ARP, 0 pings; 1 frames sent back, 1 ignored\n');
  });

  it('house: Ctrl-C ends it with 130, and the card is free for the next', async () => {
    await using echo = new VfioProcess(['net', 'echo', cards[0]]);
    await echo.says('answers');
    expect(await echo.end('SIGINT')).toBe(130);
    expect((await vfio('net', 'list', cards[0])).status).toBe(0);
  });
});

describe('vfio net bench', () => {
  it('house: one card by loopback, and one to another', async () => {
    const alone = await vfio('net', 'bench', 'sim:82576', '--seconds', '0.05', '--depth', '8');
    expect(alone.status, alone.err).toBe(0);
    expect(alone.out).toMatch(/^frames of 64 bytes, depth 8: \S+, loopback$/m);
    expect(alone.out).toMatch(/^ {2}frames\/s +[\d,]+ +[\d,]+ frames in \d+\.\d s, 0 lost$/m);
    expect(alone.out).toMatch(/^ {2}latency +p50 .* p95 .* p99 .* p99\.9 .* max /m);
    const twice = await vfio('net', 'bench', cards[0], cards[0]);
    expect([twice.status, twice.err]).toEqual([1, expect.stringContaining('is both cards, and a card has one driver')]);
    const both = await vfio('net', 'bench', ...cards, '--seconds', '0.2', '--size', '1518', '--json');
    const document = JSON.parse(both.out);
    expect(document).toMatchObject({ schema: 'vfio-ts/net-bench/1', size: 1518, lost: 0, address: cards[0], receiver: cards[1] });
    expect(document.frames).toBeGreaterThan(0);
  });

  it('house: values that make no sense are wrong usage', async () => {
    for (const argv of [
      ['bench', 'sim:82576', '--size', '63'],
      ['bench', 'sim:82576', '--depth', '257'],
      ['send', 'sim:82576', '--frame', 'ff'],
      ['send', 'sim:82576', '--frame', '00'.repeat(14), '--size', '64'],
      ['send', 'sim:82576', '--to', '52:54:00'],
      ['echo', 'sim:82576', '--ip', '10.0.0.256'],
      ['share', 'sim:82576', '--vf', '7'],
      ['share', 'sim:82576', '--vf', '0,mac=01:00:5e:00:00:01'],
      ['share', 'sim:82576', '--vf', '0,vlan=4095'],
      ['share', 'sim:82576', '--vf', '0,colour=red'],
      ['list'],
    ]) {
      expect([argv.join(' '), (await vfio('net', ...argv)).status]).toEqual([argv.join(' '), 2]);
    }
  });
});

describe('vfio net share', () => {
  it('S3-14 tenants with the token reach each other by the card; those without are refused', async () => {
    const directory = join(folder, 'card');
    const yaml = join(import.meta.dirname, '../examples/machines/network-tenants.yaml');
    await using machine = new VfioProcess(['serve', yaml, '--socket-path', directory]);
    await machine.says('listening at');
    const at = (bdf: string) => `unix:${join(directory, `${bdf}.sock`)}`;
    const [pf, first, second] = ['0000:01:00.0', '0000:01:10.0', '0000:01:10.2'].map(at) as [string, string, string];
    const token = join(folder, 'token');
    writeFileSync(token, TOKEN, { mode: 0o600 });
    const withToken = ['--vf-token-file', token];
    const vf = ['--vf', '0,mac=52:54:00:00:00:01', '--vf', '1,mac=52:54:00:00:00:02'];
    await using share = new VfioProcess(['net', 'share', pf, ...withToken, ...vf, '--ip', '10.0.0.9']);
    await share.says('2 virtual functions are enabled');

    expect((await vfio('net', 'list', first)).status).toBe(4);
    const listed = JSON.parse((await vfio('net', 'list', first, ...withToken, '--json')).out);
    expect(listed.ports).toMatchObject([{ function: 'virtual', mac: '52:54:00:00:00:01', speed: 1000 }]);

    await using echo = new VfioProcess(['net', 'echo', first, ...withToken, '--ip', '10.0.0.1', '--count', '1']);
    await echo.says('answers for 10.0.0.1');
    const request = ['--frame', arp('525400000002')];
    expect((await vfio('net', 'send', second, ...withToken, ...request)).status).toBe(0);
    expect(await echo.ended, echo.stderr).toBe(0);
    expect(echo.stdout).toContain('answered 1 ARP');

    expect(await share.end()).toBe(0);
    expect(share.stdout).toMatch(/^VF 0: its driver has started, 52:54:00:00:00:01$/m);
    expect(share.stdout).toMatch(/^\d+ requests of virtual functions served, 0 of them refused; answered 0 ARP/m);
  });
});
