//! Listening sockets in the maps, and the program that finds them.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use aya::maps::{HashMap, SockMap};
use aya::programs::SkLookup;
use ingress_common::flow::{TCP, addr_of};
use ingress_common::maps::{ListenVal, VipKey};

use super::Rig;

impl Rig {
    /// Has a listener serve an address and port, by a slot of its own.
    pub fn listen(&mut self, at: SocketAddr, slot: u32, listener: &TcpListener) {
        let mut socks = SockMap::try_from(self.ebpf.map_mut("socks").unwrap()).unwrap();
        socks.set(slot, listener, 0).unwrap();
        let mut listen: HashMap<_, VipKey, ListenVal> =
            HashMap::try_from(self.ebpf.map_mut("listen").unwrap()).unwrap();
        let key = VipKey::served(addr_of(at.ip()), at.port(), TCP);
        listen.insert(key, ListenVal { first_slot: slot, slots: 1, ..ListenVal::default() }, 0).unwrap();
    }

    /// Attaches the program that finds sockets to a network namespace, for as long as this rig lives.
    pub fn attach_lookup(&mut self, namespace: impl AsFd) {
        let program: &mut SkLookup = self.ebpf.program_mut("portcullis_sk").unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("the verifier accepts portcullis_sk: {error:?}"));
        program.attach(namespace).unwrap();
    }
}
