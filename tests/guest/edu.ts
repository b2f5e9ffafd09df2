/** Guests that get the educational device, and one that gets the device of card.ts. */
import { cardChecks } from './card-checks.ts';
import { eduChecks, likenessChecks, physicalChecks, rebootChecks } from './edu-checks.ts';
import type { ServedDevice } from './served-device.ts';
import type { BootOptions } from './virtual-machine.ts';
import { scenario, type Visits } from './visits.ts';

export async function visitEdu(visits: Visits, served: ServedDevice): Promise<void> {
  const machine = {
    qemu: ['-device', 'edu,addr=4', ...served.qemuDevice({ addr: '9' })],
    kernel: ['edu.qemu=0000:00:04.0', 'edu.served=0000:00:09.0'],
  };
  await visits.visit(
    'edu, in a guest with an IOMMU',
    { scenario: scenario('edu.sh'), iommu: true, ...machine },
    {
      "QEMU's": eduChecks('qemu'),
      served: [...eduChecks('served'), ...likenessChecks('served', 'qemu')],
    },
  );
  await visits.visit(
    'edu, in a guest without an IOMMU',
    { scenario: scenario('edu-physical.sh'), iommu: false, ...machine },
    {
      "QEMU's": physicalChecks('qemu'),
      served: physicalChecks('served'),
    },
  );
  await visits.visit(
    'edu, in a guest whose memory is reached by messages',
    { scenario: scenario('edu.sh'), iommu: true, sharedMemory: false, ...machine },
    {
      served: eduChecks('served'),
    },
  );
  let boots = 0;
  const restarting: Pick<BootOptions, 'reboots' | 'onFact'> = {
    reboots: true,
    onFact(_subject, key, value, guest) {
      if (key !== 'asks') return;
      guest.send(value === 'which-boot' ? (boots++ === 0 ? 'first' : 'second') : 'yes');
    },
  };
  await visits.visit(
    'edu, in a guest that restarts while drivers are at work',
    { scenario: scenario('edu-reboot.sh'), iommu: true, ...restarting, ...machine },
    {
      "QEMU's": rebootChecks('qemu'),
      served: rebootChecks('served'),
    },
  );
}

export async function visitCard(visits: Visits, served: ServedDevice): Promise<void> {
  const qemu = ['-device', 'pcie-root-port,id=root1,chassis=1', ...served.qemuDevice({ bus: 'root1' })];
  await visits.visit(
    'a PCI Express device from a file',
    { scenario: scenario('card.sh'), iommu: true, qemu },
    { served: cardChecks('card') },
  );
}
