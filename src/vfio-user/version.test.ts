import { describe, expect, it } from 'vitest';
import { QEMU_MAX_CAPABILITY_CHARS } from '../../tests/kit/qemu.ts';
import { parseVfToken } from '../abi/vf-token.ts';
import type { VfioError } from '../base/errno.ts';
import { decodeVersion, defaultCapabilities, encodeVersion, formatCapabilities, VF_TOKEN_CAPABILITY } from './messages.ts';
import { negotiate, type Offer } from './server/negotiation.ts';

const offer: Offer = {
  maxMsgFds: 253,
  maxDataXferSize: 2 ** 20,
  maxDmaMaps: 1_000_000,
  pgsizes: 0xffff_ffff_ffff_f000n,
  migration: { pgsize: 4096, maxBitmapSize: 268435456 },
  twinSocket: true,
};

/** VERSION's payload with `json` as it stands. */
function version(json: string | null, { major = 0, minor = 0, nul = true } = {}): Uint8Array {
  const text = json === null ? new Uint8Array(0) : new TextEncoder().encode(nul ? `${json}\0` : json);
  const payload = new Uint8Array(4 + text.length);
  new DataView(payload.buffer).setUint16(0, major, true);
  new DataView(payload.buffer).setUint16(2, minor, true);
  payload.set(text, 4);
  return payload;
}

/** As QEMU 10 and 11 write it. */
const qemu =
  '{"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": 1048576, "max_dma_maps": 65535, "pgsizes": 4096, ' +
  '"migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "write_multiple": true}}';

const json = (payload: Uint8Array) => new TextDecoder().decode(payload.subarray(4, payload.length - 1));

describe('VERSION', () => {
  it('goes there and back', () => {
    const capabilities = {
      maxMsgFds: 8,
      maxDataXferSize: 4096,
      maxDmaMaps: 100,
      pgsizes: 0x20_1000n,
      migration: { pgsize: 4096, maxBitmapSize: 1024 },
      twinSocket: { supported: true, fdIndex: 0 },
      writeMultiple: true,
    };
    expect(decodeVersion(encodeVersion(0, 2, capabilities))).toEqual({ major: 0, minor: 2, capabilities });
  });

  it('a client says how much it can have on its way, and one that does not says nothing', () => {
    const said = decodeVersion(encodeVersion(0, 2, { maxMsgFds: 8 }, null, { dmaReadBytes: 2 ** 22 }));
    expect([said.dmaReadBytes, decodeVersion(version(qemu)).dmaReadBytes]).toEqual([2 ** 22, undefined]);
    expect(() => decodeVersion(version('{"capabilities":{"vfio_ts_dma_read_bytes":0}}'))).toThrow('vfio_ts_dma_read_bytes is 0');
  });

  it.each([null, '{}', '{"capabilities":{}}', ' { "capabilities" : { "spurious" : [1] } } '])('%s means the defaults', (text) => {
    expect(decodeVersion(version(text)).capabilities).toEqual(defaultCapabilities);
  });

  it.each([
    ['nothing at all', new Uint8Array(0)],
    ['half a version', new Uint8Array(3)],
    ['no NUL', version('{}', { nul: false })],
    ['an empty text', version('')],
    ['text that is no JSON', version('{"capabilities":')],
    ['text behind the JSON', version('{}x')],
    ['bytes that are no UTF-8', Uint8Array.of(0, 0, 0, 0, 0x22, 0xff, 0x22, 0)],
    ['a NUL in the middle', version('{}\0{}')],
    ['a number', version('7')],
    ['null', version('null')],
    ['an array', version('[]')],
    ['capabilities that are an array', version('{"capabilities":[]}')],
    ['capabilities that are text', version('{"capabilities":"all"}')],
    ['an endless nesting', version(`{"capabilities":${'['.repeat(60_000)}`)],
    ['very much JSON', version(`{"x":"${'y'.repeat(70_000)}"}`)],
  ])('%s is EINVAL', (_, payload) => {
    expect(() => decodeVersion(payload)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it.each([
    ['max_msg_fds', '"foo"', '-1', '1025', '1.5', 'null', '{}', '1e400'],
    ['max_data_xfer_size', '"foo"', '0', '-1', '1e300', 'true'],
    ['max_dma_maps', '"foo"', '-1', '[]'],
    ['pgsizes', '"4096"', '0', '-4096', '1e20'],
    ['migration', '1', '"yes"', '[]', '{"pgsize":"x"}', '{"pgsize":0}', '{"max_bitmap_size":-1}'],
    ['twin_socket', 'true', '{"supported":1}', '{"supported":"yes"}', '{"fd_index":-1}'],
    ['write_multiple', '1', '"true"', '{}'],
  ])('%s of the wrong type or out of range is EINVAL', (key, ...values) => {
    for (const value of values) {
      const payload = version(`{"capabilities":{"${key}":${value}}}`);
      expect(() => decodeVersion(payload), value).toThrow(
        expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('VERSION') }),
      );
    }
  });
});

it('a refused value is shown in a few words, however large or nested it is', () => {
  const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
  for (const value of [deep, `"${'x'.repeat(60_000)}"`]) {
    for (const key of ['max_msg_fds', 'write_multiple']) {
      const message = expect.stringMatching(/^VERSION: .{0,150}$/);
      expect(() => decodeVersion(version(`{"capabilities":{"${key}":${value}}}`))).toThrow(
        expect.objectContaining({ code: 'EINVAL', message }),
      );
    }
  }
});

describe('the reply', () => {
  it('to QEMU is short, and says nothing that QEMU refuses', () => {
    const { minor, capabilities } = negotiate(decodeVersion(version(qemu)), { ...offer, migration: { pgsize: 4096 } });
    const text = json(encodeVersion(0, minor, capabilities));
    expect(minor).toBe(0);
    expect(capabilities.maxMsgFds).toBeLessThanOrEqual(16);
    expect(capabilities.maxDmaMaps).toBeLessThanOrEqual(65535);
    expect(capabilities.pgsizes).toBe(4096n);
    expect(capabilities.maxDataXferSize).toBeLessThanOrEqual(64 * 2 ** 20);
    expect(text.length).toBeLessThanOrEqual(QEMU_MAX_CAPABILITY_CHARS);
    expect(text).not.toContain(' ');
    expect(JSON.parse(text)).toEqual({
      capabilities: {
        max_msg_fds: 16,
        max_data_xfer_size: 1048576,
        max_dma_maps: 65535,
        pgsizes: 4096,
        migration: { pgsize: 4096 },
        write_multiple: true,
      },
    });
  });

  it('never has more than was asked for', () => {
    const { minor, capabilities } = negotiate(decodeVersion(version(null, { minor: 1 })), offer);
    expect(minor).toBe(1);
    expect(capabilities).toEqual({
      maxMsgFds: 16,
      maxDataXferSize: 2 ** 20,
      maxDmaMaps: 65535,
      pgsizes: 4096n,
      migration: null,
      twinSocket: null,
      writeMultiple: false,
    });
    expect(json(encodeVersion(0, minor, capabilities))).not.toMatch(/migration|twin|write/);
  });

  it('has a minor version of the client, or ours when that is older', () => {
    for (const [theirs, agreed] of [
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 2],
      [65535, 2],
    ] as const) {
      expect(negotiate(decodeVersion(version('{}', { minor: theirs })), offer).minor).toBe(agreed);
    }
  });

  it('another major version is EINVAL, and so are page sizes that the device lacks', () => {
    expect(() => negotiate(decodeVersion(version('{}', { major: 1 })), offer)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    for (const pgsizes of [1, 2048, 4095]) {
      const client = decodeVersion(version(`{"capabilities":{"pgsizes":${pgsizes}}}`));
      expect(() => negotiate(client, offer)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
  });

  it('offers a twin socket to each client that supports it and can receive it', () => {
    const ask = (text: string, ours = true) =>
      negotiate(decodeVersion(version(`{"capabilities":${text}}`)), { ...offer, twinSocket: ours });
    expect(ask('{"twin_socket":{"supported":true}}').capabilities.twinSocket).toEqual({ supported: true, fdIndex: 0 });
    expect(ask('{"twin_socket":{"supported":false}}').capabilities.twinSocket).toBeNull();
    expect(ask('{"twin_socket":{}}').capabilities.twinSocket).toBeNull();
    expect(ask('{"twin_socket":{"supported":true},"max_msg_fds":0}').capabilities.twinSocket).toBeNull();
    expect(ask('{"twin_socket":{"supported":true}}', false).capabilities.twinSocket).toBeNull();
  });

  it('writes page sizes as a number that JSON can hold', () => {
    expect(JSON.parse(formatCapabilities({ pgsizes: 0xffff_ffff_ffff_f000n })).capabilities.pgsizes).toBe(2 ** 53 - 4096);
  });
});

describe('VF token', () => {
  const uuid = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';
  const problem = (json: string): VfioError => {
    try {
      decodeVersion(version(json, { minor: 1 }));
    } catch (error) {
      return error as VfioError;
    }
    throw new Error('it was taken');
  };

  it('E-11 travels from client to server under a name of ours, and is no capability', () => {
    const token = parseVfToken(uuid)!;
    const payload = encodeVersion(0, 1, { maxMsgFds: 8 }, token);
    expect(new TextDecoder().decode(payload.subarray(4))).toBe(`{"capabilities":{"max_msg_fds":8,"${VF_TOKEN_CAPABILITY}":"${uuid}"}}\0`);
    const { vfToken, capabilities } = decodeVersion(payload);
    expect(vfToken).toEqual(token);
    expect(JSON.stringify({ ...capabilities, pgsizes: 0 })).not.toContain(uuid.slice(0, 8));
    expect(decodeVersion(encodeVersion(0, 1, { maxMsgFds: 8 }))).not.toHaveProperty('vfToken');
  });

  it('S3-02 a token that is no UUID is EINVAL; neither this error nor that of broken JSON shows any of it', () => {
    const values = [`"${uuid.slice(1)}"`, `"${uuid}0"`, `["${uuid}"]`, `{"a":"${uuid}"}`, '1', 'null', 'true', '""'];
    // The first one is quoted by JSON.parse() itself.
    const broken = [`x${uuid.slice(9)}`, `"${uuid}`, `"${uuid}" x`, `'${uuid}'`, `"${uuid}"}`];
    for (const value of [...values, ...broken]) {
      const error = problem(`{"capabilities":{"${VF_TOKEN_CAPABILITY}":${value}}}`);
      expect(error.code).toBe('EINVAL');
      expect(`${error.stack}${String(error.cause)}`).not.toMatch(/509f|0fa1001/);
    }
  });
});
