import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DeviceRig } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { formatVfToken } from '../../abi/vf-token.ts';
import { VfioError } from '../../base/errno.ts';
import { parseDeviceName } from './device-name.ts';

const bdf = '0000:00:04.0';
const uuid = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';

it.each(['', '0000:00:04.1', '00:04.0', `${bdf}x`, `${bdf}\tvf_token=${uuid}`, ` ${bdf}`, 'vf_token=1'])(
  'S3-01 %j is the name of another device',
  (name) => {
    expect(parseDeviceName(bdf, name)).toBe(null);
  },
);

it.each([bdf, `${bdf} `, `${bdf}     `])('S3-01 T11 %j opens it', (name) => {
  expect(parseDeviceName(bdf, name)).toEqual({ token: null });
  expect(new DeviceRig().group.openDevice(name).info.name).toBe(bdf);
});

it.each([
  `${bdf} bogus=1`,
  `${bdf}  bogus`,
  `${bdf} vf_token=`,
  `${bdf} vf_token=zzz`,
  `${bdf} vf_token=${uuid.slice(0, 35)}`,
  `${bdf} vf_token=${uuid.replace('8', 'g')}`,
  `${bdf} vf_token=${uuid}x`,
  `${bdf} vf_token=${uuid} vf_token=${uuid}`,
  `${bdf} vf_token=${uuid} bogus=1`,
])('S3-02 %j is EINVAL', (name) => {
  expect(errnoFrom(() => parseDeviceName(bdf, name))).toBe('EINVAL');
});

it('S3-03 T12 a well-formed token on a device without SR-IOV is EINVAL: it would not be used', () => {
  for (const name of [`${bdf} vf_token=${uuid}`, `${bdf}   vf_token=${uuid.toUpperCase()}  `]) {
    expect(formatVfToken(parseDeviceName(bdf, name)!.token!)).toBe(uuid);
    expect(errnoFrom(() => new DeviceRig().group.openDevice(name))).toBe('EINVAL');
  }
});

it('S3-05 no message repeats a token', () => {
  const options = [` vf_token=${uuid}`, ` vf_token=${uuid}x`, ` vf_token=${uuid.slice(1)}`, ` bogus=${uuid}`];
  for (const option of options) {
    try {
      parseDeviceName(bdf, bdf + option);
      new DeviceRig().group.openDevice(bdf + option);
      expect.unreachable();
    } catch (error) {
      expect((error as VfioError).explain()).not.toContain(uuid.slice(1, 30));
    }
  }
});

it('S3-01 any string is a match, no match or EINVAL', () => {
  fc.assert(
    fc.property(fc.string(), fc.boolean(), (text, prefixed) => {
      try {
        parseDeviceName(bdf, prefixed ? bdf + text : text);
      } catch (error) {
        expect(error).toBeInstanceOf(VfioError);
        expect((error as VfioError).code).toBe('EINVAL');
      }
    }),
  );
});
