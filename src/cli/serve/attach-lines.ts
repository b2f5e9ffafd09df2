/** Command lines that give a served device to a virtual machine, or to a driver. */
import { shellQuoted } from '../../api/shell-quoted.ts';

export interface AttachLine {
  readonly title: string;
  readonly command: string;
}

/** @param path absolute: the user types the line in another directory */
export function attachLines(path: string): AttachLine[] {
  const device = { driver: 'vfio-user-pci', socket: { type: 'unix', path } };
  return [
    {
      title: 'QEMU 10.1 or newer (the guest’s memory must be shared)',
      command: [
        'qemu-system-x86_64 -machine q35,accel=kvm:tcg,memory-backend=ram -m 1G',
        '  -object memory-backend-memfd,id=ram,size=1G,share=on',
        `  -device ${shellQuoted(JSON.stringify(device))}`,
      ].join(' \\\n'),
    },
    { title: 'Cloud Hypervisor', command: `cloud-hypervisor --memory size=1G,shared=on --user-device ${shellQuoted(`socket=${path}`)}` },
    { title: 'a driver of yours', command: `npx vfio run driver.ts ${shellQuoted(`unix:${path}`)}` },
  ];
}
