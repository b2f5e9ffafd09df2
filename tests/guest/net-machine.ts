/** Parts of the guests with network cards. */

export const MODULES = ['igb', 'igbvf', '8021q'];

/** Words for QEMU: a root port. */
export const port = (number: number) => ['-device', `pcie-root-port,id=root${number},chassis=${number},addr=${number + 4}`];

/** The card behind that port, in the guest. */
export const behind = (number: number) => `0000:0${number}:00.0`;
