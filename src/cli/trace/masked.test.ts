import { describe, expect, it } from 'vitest';
import { samples } from '../../../tests/kit/vfio-user-samples.ts';
import { parseVfToken } from '../../abi/vf-token.ts';
import { Feature } from '../../abi/vfio.ts';
import { HeaderFlags } from '../../abi/vfio-user.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import { masked } from '../../vfio-user/messages/masked.ts';
import { Command, encodeFeature, encodeMessage, encodeReason, encodeVersion } from '../../vfio-user/messages.ts';
import { describeMessage } from './describe-message.ts';

describe('S3-05 VF tokens in traces', () => {
  const uuid = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';
  const token = parseVfToken(uuid)!;
  const version = (json: string) => {
    const text = new TextEncoder().encode(`${json}\0`);
    return encodeMessage(1, Command.VERSION, Uint8Array.of(0, 0, 1, 0, ...text));
  };
  const refusal = (message: string) => {
    const payload = encodeReason(new VfioError('EINVAL', message, { fix: 'Use C:\\token.' }));
    return encodeMessage(1, Command.VERSION, payload, HeaderFlags.REPLY | HeaderFlags.ERROR, Errno.EINVAL);
  };
  const contains = (bytes: Uint8Array) => {
    const text = Buffer.from(bytes).toString('latin1').toLowerCase();
    return text.includes('509f') || text.includes('0fa1001') || Buffer.from(bytes).includes(Buffer.from(token.subarray(4, 12)));
  };
  const secrets: readonly (readonly [string, Uint8Array])[] = [
    ['VERSION', encodeMessage(1, Command.VERSION, encodeVersion(0, 1, { maxMsgFds: 8 }, token))],
    ['VERSION, a typing error in the token', version(`{"capabilities":{"vfio_ts_vf_token":"${uuid.slice(1)}"}}`)],
    ['VERSION, under another name', version(`{"capabilities":{"token":"${uuid.toUpperCase()}"}}`)],
    ['VERSION, escaped', version(`{"capabilities":{"vfio_ts_vf_tok\\u0065n":"${uuid.replaceAll('-', '\\u002d')}"}}`)],
    ['VERSION, behind an escaped quote', version(`{"capabilities":{"vfio_ts_vf_token":"\\"${uuid.slice(1)}"}}`)],
    ['VERSION, behind an escape that is none', version(`{"comment":"\\x","capabilities":{"vfio_ts_vf_token":"${uuid}"}}`)],
    ['VERSION, the reason of an error', refusal(`token: ${JSON.stringify({ vf_token: uuid.slice(1) })} is no "UUID"`)],
    [
      'DEVICE_FEATURE',
      encodeMessage(
        2,
        Command.DEVICE_FEATURE,
        encodeFeature({ feature: Feature.PCI_VF_TOKEN, get: false, set: true, probe: false, data: token }),
      ),
    ],
  ];

  it.each(secrets)('S3-05 %s: nothing of it is shown or kept, and all else is', (_, message) => {
    expect(contains(message)).toBe(true);
    const shown = masked(message);
    expect([contains(shown), shown.length]).toEqual([false, message.length]);
    expect(masked(shown)).toEqual(shown);
    const { text, command } = describeMessage(message);
    expect(contains(new TextEncoder().encode(text))).toBe(false);
    if (command === 'DEVICE_FEATURE') expect(text).toBe('PCI_VF_TOKEN set: a token');
  });

  it('S3-05 a VERSION longer than any peer reads is masked as a whole', () => {
    const shown = masked(version('x'.repeat(70_000) + uuid));
    expect([shown.length, contains(shown), shown.subarray(20, 24)]).toEqual([
      16 + 4 + 70_000 + 36 + 1,
      false,
      new Uint8Array(4).fill(0x2a),
    ]);
  });

  it('S3-05 JSON with escapes is kept but for the token', () => {
    const json = (mark: string) => version(`{"comment":"a \\"b\\u0041\\n","capabilities":{"vfio_ts_vf_token":"${mark}","max_msg_fds":8}}`);
    expect(masked(json(uuid))).toEqual(json('*'.repeat(36)));
  });

  it('S3-05 a reason with quotes and backslashes is shown', () => {
    const message = refusal('pgsizes is "4k"');
    expect(masked(message)).toBe(message);
    expect(describeMessage(message).text).toMatch(/^EINVAL: .*pgsizes is "4k" \(Use C:\\token\.\)$/);
  });

  it('S3-05 messages without a token are kept as they are', () => {
    for (const { bytes } of samples) expect(masked(bytes)).toBe(bytes);
  });
});
