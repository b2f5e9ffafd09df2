/** The line that describes a device that is lent: a process at the socket may send any line. */
import { expect, it } from 'vitest';
import { refusal } from '../../tests/kit/errno.ts';
import { parse } from './lent-files.ts';

const head = { protocol: 'vfio-ts/lent/1', name: '0000:03:00.0', via: 'group' };
const codeOf = (line: unknown) => refusal(() => parse(JSON.stringify(line), '/run/card')).code;

it('describes a device of a container, or of an iommufd', () => {
  const container = { iommu: 3, group: 7 };
  const iommufd = { ioas: 1, deviceId: 2, hwpts: [3] };
  expect(parse(JSON.stringify({ ...head, container }), '').container).toEqual(container);
  expect(parse(JSON.stringify({ ...head, iommufd }), '').iommufd).toEqual(iommufd);
});

it.each([
  [null],
  [7],
  [{ ...head, protocol: 'vfio-ts/lent/0' }],
  [head],
  [{ ...head, name: 7, container: { iommu: 3, group: 7 } }],
  [{ ...head, container: null }],
  [{ ...head, container: { iommu: 'x', group: 7 } }],
  [{ ...head, iommufd: { ioas: 1, deviceId: 2 } }],
  [{ ...head, iommufd: { ioas: 1, deviceId: 2, hwpts: ['x'] } }],
  [{ ...head, container: { iommu: 3, group: 7 }, iommufd: { ioas: 1, deviceId: 2, hwpts: [] } }],
])('EPROTO for a line that is none: %j', (line) => {
  expect(codeOf(line)).toBe('EPROTO');
});

it('a refusal keeps its errno, and one without a known errno is EIO', () => {
  expect(codeOf({ ...head, error: { code: 'EBUSY', message: 'in use' } })).toBe('EBUSY');
  expect([codeOf({ ...head, error: null }), codeOf({ ...head, error: { code: 'toString' } })]).toEqual(['EIO', 'EIO']);
});
