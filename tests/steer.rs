//! The XDP program's verdicts, by BPF_PROG_TEST_RUN.
mod common;

fn main() {
    common::run(vec![common::privileged_trial("veth_pair_made_interfaces_up", || {
        let pair = common::VethPair::new(2);
        let listener = pair.right.enter(|| std::net::TcpListener::bind("10.77.0.2:80")).unwrap();
        pair.left.enter(|| std::net::TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    })])
    .exit();
}
