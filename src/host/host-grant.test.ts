import { expect, it } from 'vitest';
import { FakeHost } from '../../tests/kit/fake-host.ts';
import { functionStates } from './function-state.ts';
import { carryOutGrant, grantRule, planGrant, userOf } from './host-grant.ts';

const A = '0000:01:00.0';

/** A group with a device file, and /dev/iommu of root. */
function computer(): FakeHost {
  const host = new FakeHost({ [A]: { driver: 'vfio-pci', group: 7 } });
  host.entries.set(`/sys/devices/pci0000:00/${A}/vfio-dev/vfio2/dev`, '511:2\n');
  host.entries.set('/dev/vfio/devices/vfio2', '');
  host.entries.set('/dev/iommu', '');
  host.owners.set('/dev/iommu', { uid: 0, gid: 0, mode: 0o660 });
  return host;
}
const plan = (host: FakeHost, options = {}) => planGrant(host, host, functionStates(host), userOf(host, 'alice'), options);

it('gives the group and its device files to the user alone, and says that /dev/iommu stays', () => {
  const host = computer();
  const granted = plan(host);
  carryOutGrant(host, granted);
  expect(Object.fromEntries(host.owners)).toEqual({
    '/dev/iommu': { uid: 0, gid: 0, mode: 0o660 },
    '/dev/vfio/7': { uid: 1000, gid: 1000, mode: 0o600 },
    '/dev/vfio/devices/vfio2': { uid: 1000, gid: 1000, mode: 0o600 },
  });
  expect(granted.remarks).toEqual([expect.stringContaining('/dev/iommu stays as it is (mode 660)')]);
});

it('--iommufd lets all users open /dev/iommu; --revoke gives the nodes back', () => {
  const host = computer();
  carryOutGrant(host, plan(host, { iommufd: true }));
  expect(host.owners.get('/dev/iommu')).toEqual({ uid: 0, gid: 0, mode: 0o666 });
  carryOutGrant(host, plan(host, { revoke: true }));
  expect(host.owners.get('/dev/vfio/7')).toEqual({ uid: 0, gid: 0, mode: 0o600 });
});

it('a failure gives the earlier nodes back', () => {
  const host = computer();
  host.failAt = 2;
  expect(() => carryOutGrant(host, plan(host))).toThrow(expect.objectContaining({ code: 'EIO' }));
  expect(host.owners.get('/dev/vfio/7')).toEqual({ uid: 0, gid: 0, mode: 0o600 });
});

it('names what is missing: the node, the user', () => {
  const host = new FakeHost({ [A]: { driver: 'igb', group: 7 } });
  expect(() => plan(host)).toThrow(expect.objectContaining({ code: 'ENOENT', fix: `vfio bind ${A}` }));
  expect(() => userOf(host, 'bob')).toThrow(/no user bob/);
});

it('the rule finds the group by a member', () => {
  expect(grantRule(A, { name: 'alice', uid: 1000, gid: 1000 }, false).text).toContain(
    `SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/${A}", OWNER="1000", GROUP="1000", MODE="0600"`,
  );
});
