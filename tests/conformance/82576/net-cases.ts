/**
 * The 82576 driver's cases on Linux's VFIO as a program, for guests with two of QEMU's cards.
 *
 * NET_BDFS names both cards, NET_VIA the way to them (group, cdev), and NET_TOKEN the token of the
 * first one, whose virtual functions are enabled through sysfs.
 */
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { VfioError } from '../../../src/base/errno.ts';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { KernelDevice } from '../../../src/kernel/device.ts';
import { runCases } from '../standalone/vitest.ts';
import { netConformance } from './net-conformance.ts';
import type { NetSubject } from './subject.ts';

const { NET_BDFS: names, NET_VIA: via, NET_TOKEN: token } = process.env;
if (names === undefined || (via !== 'group' && via !== 'cdev')) {
  throw new VfioError('EINVAL', 'the environment names no cards', { fix: 'Set NET_BDFS, and NET_VIA to group or cdev.' });
}
const cards = names.split(',');
const folder = `/sys/bus/pci/devices/${cards[0]}`;

async function subject(): Promise<NetSubject> {
  const opened: DriverDevice[] = [];
  const attach = (bdf: string, options: { readonly token?: string } = {}) => {
    const dev = DriverDevice.attach(KernelDevice.open({ kind: 'pci', bdf }, { via: via as 'group' | 'cdev', ...options }));
    opened.push(dev);
    return dev;
  };
  const withToken = token === undefined ? {} : { token };
  return {
    qemu: true,
    open: (card) => attach(cards[card]!, card === 0 ? withToken : {}),
    ...(token === undefined
      ? {}
      : {
          async enableVfs(count: number) {
            writeFileSync(`${folder}/sriov_numvfs`, '0');
            if (count > 0) writeFileSync(`${folder}/sriov_numvfs`, String(count));
          },
          openVf: (vf: number) => attach(basename(readlinkSync(`${folder}/virtfn${vf}`)), withToken),
        }),
    async [Symbol.asyncDispose]() {
      for (const dev of opened) dev.close();
      if (token !== undefined && readdirSync(folder).includes('virtfn0')) writeFileSync(`${folder}/sriov_numvfs`, '0');
    },
  };
}

netConformance(via, subject);
await runCases(process.argv[2]);
