//! What the programs know of their interface and their agent.

use aya::maps::{Array, HashMap};
use ingress_common::flow::addr_of;
use ingress_common::maps::{IfaceVal, Meta, VipKey, VipVal};
use ingress_userspace::bpf::clock::now_ns;

use super::Rig;
use super::tc::TEST_INTERFACE;

impl Rig {
    /// The interface of tests has this hardware address.
    pub fn set_interface_mac(&mut self, mac: [u8; 6]) {
        let mut ifaces: HashMap<_, u32, IfaceVal> = self.ebpf.map_mut("ifaces").unwrap().try_into().unwrap();
        ifaces.insert(TEST_INTERFACE, IfaceVal { mac, ..IfaceVal::default() }, 0).unwrap();
    }

    /// The agent's last sign of life was so many seconds ago; `None`: there was none.
    pub fn set_heartbeat(&mut self, seconds_ago: Option<u64>) {
        let heartbeat_ns = seconds_ago.map_or(0, |seconds| now_ns() - seconds * 1_000_000_000);
        let mut meta: Array<_, Meta> = self.ebpf.map_mut("meta").unwrap().try_into().unwrap();
        meta.set(0, Meta { heartbeat_ns, ..Meta::default() }, 0).unwrap();
    }

    /// Adds flags to the entry of an address.
    pub fn flag_address(&mut self, address: &str, flags: u32) {
        let key = VipKey::address(addr_of(address.parse().unwrap()));
        let vip = self.contents.vips[&key];
        self.set_vip(key, VipVal { flags: vip.flags | flags, ..vip });
    }
}
