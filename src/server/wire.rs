//! The bytes between us and a server: a socket with or without TLS, and what is mended in them on their way in.
//!
//! tokio-postgres takes every text for UTF-8 and keeps the raw bytes to itself. Servers send other bytes: a `SQL_ASCII`
//! database has no encoding, `pg_stat_activity` shows queries of databases with another one, and messages sent before
//! the session has an encoding come in the server's own. One such byte would cost the whole answer, or the connection.
//! So each byte that is not part of UTF-8 becomes `?`, which leaves all lengths as they are.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::{Context, Poll, ready as poll_ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(super) type Encrypted = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::Stream;

const CHUNK: usize = 16 * 1024;
/// Type and length of a message.
const HEADER: usize = 5;
/// A row is one message, and no collector has use for a larger one. Its length is what the server says it is, so memory is
/// taken as it comes and not as it is announced.
const LARGEST_MESSAGE: usize = 16 << 20;
/// What a server may say before it is ready, which the driver keeps.
const MOST_BEFORE_READY: usize = 1 << 20;
/// What it may say unasked in the life of a connection. Behind a pooler the settings of each query are reported back,
/// twice: some 30 MB in the hour that a connection lasts, when every collector is asked each second.
const MOST_UNASKED: usize = 64 << 20;

/// What carries the bytes.
pub(super) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<Encrypted>),
}

/// A transport that speaks PostgreSQL's protocol from its first byte on.
pub(super) struct Wire {
    transport: Transport,
    received: Vec<u8>,
    /// What the reader has taken of `received`.
    taken: usize,
    /// Whole messages end here; they are mended and can be taken.
    mended: usize,
    is_ready: bool,
    unasked: usize,
    process_id: Arc<AtomicI32>,
    lingers: Arc<AtomicBool>,
}

impl Wire {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            received: Vec::new(),
            taken: 0,
            mended: 0,
            is_ready: false,
            unasked: 0,
            process_id: Arc::default(),
            lingers: Arc::default(),
        }
    }

    /// The process that the server says serves us: 0 until it has said so. A pooler makes one up.
    pub(super) fn process_id(&self) -> Arc<AtomicI32> {
        Arc::clone(&self.process_id)
    }

    /// When this is set, shutting down includes the wait for the other side to close: only then is its process gone.
    pub(super) fn lingers(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.lingers)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Mends the whole messages among the bytes received.
    fn mend(&mut self) -> io::Result<()> {
        while let Some(rest) = self.received.get_mut(self.mended..) {
            let Some((&mut [kind, a, b, c, d], after)) = rest.split_first_chunk_mut::<HEADER>() else { return Ok(()) };
            let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(HEADER - 1);
            if length > LARGEST_MESSAGE {
                let reason =
                    format!("the server announces a message of {length} bytes, expected {LARGEST_MESSAGE} at most");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            let Some(body) = after.get_mut(..length) else { return Ok(()) };
            match kind {
                b'D' => mend_row(body),
                // Error, notice, parameter: texts between zero bytes.
                b'E' | b'N' | b'S' => mend_text(body),
                b'K' => {
                    if let Some((id, _)) = body.split_first_chunk() {
                        self.process_id.store(i32::from_be_bytes(*id), Ordering::Relaxed);
                    }
                }
                b'Z' => self.is_ready = true,
                _ => {}
            }
            self.mended += HEADER + length;
            if !self.is_ready || matches!(kind, b'S' | b'A') {
                self.unasked += HEADER + length;
            }
            let most = if self.is_ready { MOST_UNASKED } else { MOST_BEFORE_READY };
            if self.unasked > most {
                let reason = format!("the server says more than {most} bytes that nobody asked for");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok(())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, chunk: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Unix(stream) => Pin::new(stream).poll_read(cx, chunk),
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, chunk),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, chunk),
        }
    }

    fn discard_taken(&mut self) {
        self.received.drain(..self.taken);
        self.mended -= self.taken;
        self.taken = 0;
        if self.received.is_empty() && self.received.capacity() > 16 * CHUNK {
            self.received = Vec::new();
        }
    }
}

/// The values of a row: their number, then each one's length (-1 for NULL) and bytes.
fn mend_row(body: &mut [u8]) {
    let Some((_, mut rest)) = body.split_first_chunk_mut::<2>() else { return };
    while let Some((length, after)) = rest.split_first_chunk_mut::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let Some((value, after)) = after.split_at_mut_checked(length) else { return };
        mend_text(value);
        rest = after;
    }
}

fn mend_text(text: &mut [u8]) {
    let mut from = 0;
    while let Some(rest) = text.get_mut(from..) {
        let Err(error) = std::str::from_utf8(rest) else { return };
        let start = error.valid_up_to();
        let end = error.error_len().map_or(rest.len(), |length| start + length);
        if let Some(wrong) = rest.get_mut(start..end) {
            wrong.fill(b'?');
        }
        from += end;
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.taken == this.mended {
            this.discard_taken();
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            poll_ready!(this.poll_receive(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.received.extend_from_slice(chunk.filled());
            this.mend()?;
        }
        let waiting = this.received.get(this.taken..this.mended).unwrap_or_default();
        let taking = waiting.get(..out.remaining()).unwrap_or(waiting);
        out.put_slice(taking);
        this.taken += taking.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        poll_ready!(match &mut this.transport {
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        })?;
        while this.lingers.load(Ordering::Relaxed) {
            let mut rest = [0; 64];
            let mut rest = ReadBuf::new(&mut rest);
            poll_ready!(this.poll_receive(cx, &mut rest))?;
            if rest.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.transport {
            Transport::Tls(stream) => stream.channel_binding(),
            _ => ChannelBinding::none(),
        }
    }
}

/// Hands a wire to tokio-postgres as the outcome of its own handshake, so that it binds SCRAM to our TLS.
pub(super) struct Established;

impl TlsConnect<Wire> for Established {
    type Stream = Wire;
    type Error = io::Error;
    type Future = Ready<io::Result<Wire>>;

    fn connect(self, wire: Wire) -> Self::Future {
        ready(Ok(wire))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    /// What comes out when the bytes arrive in pieces of this size.
    async fn passed(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let (mut server, client) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(Transport::Unix(client));
        let mut out = Vec::new();
        let feed = async {
            for piece in bytes.chunks(piece) {
                if server.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(server);
        };
        let read = async {
            let read = wire.read_to_end(&mut out).await;
            drop(wire);
            read
        };
        let ((), read) = tokio::join!(feed, read);
        read.map(|_| out)
    }

    #[tokio::test]
    async fn bytes_that_are_not_utf8_become_question_marks_however_they_arrive() {
        let row = |first: &[u8], last: &[u8]| {
            let length = |text: &[u8]| i32::try_from(text.len()).unwrap().to_be_bytes();
            let parts = [&3_i16.to_be_bytes()[..], &length(first), first, &(-1_i32).to_be_bytes(), &length(last), last];
            message(b'D', &parts.concat())
        };
        // The lengths themselves hold bytes that are not UTF-8: a row of 200 letters.
        let long = [b'x'; 200];
        let sent = [row(b"M\xfcller \xe2\x82", "Müller".as_bytes()), row(&long, b""), message(b'E', b"M\xff\0\0")];
        let expected = [row(b"M?ller ??", "Müller".as_bytes()), row(&long, b""), message(b'E', b"M?\0\0")];
        for piece in [1, 7, 4096] {
            assert_eq!(passed(&sent.concat(), piece).await.unwrap(), expected.concat(), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn the_process_that_serves_us_is_remembered() {
        let (mut server, client) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(Transport::Unix(client));
        let id = wire.process_id();
        server.write_all(&message(b'K', &[0, 0, 1, 2, 9, 9, 9, 9])).await.unwrap();
        wire.read_u8().await.unwrap();
        assert_eq!(id.load(Ordering::Relaxed), 258);
    }

    #[tokio::test]
    async fn what_a_server_says_is_bounded() {
        let refusal = async |bytes: &[u8]| passed(bytes, CHUNK).await.unwrap_err().to_string();
        let announced = [b'D', 0x7f, 0xff, 0xff, 0xff];
        assert!(refusal(&announced).await.starts_with("the server announces a message of 2147483643 bytes"));
        let parameter = message(b'S', b"name\0value\0").repeat(MOST_BEFORE_READY / 16 + 1);
        assert!(refusal(&parameter).await.contains("nobody asked for"));
        let notice = message(b'N', b"SNOTICE\0MHello\0\0").repeat(MOST_BEFORE_READY / 16);
        assert!(refusal(&notice).await.contains("nobody asked for"));
        let ready = message(b'Z', b"I");
        for wanted in [message(b'D', &[0; 1000]).repeat(2 * MOST_BEFORE_READY / 1000), parameter] {
            let said = [ready.clone(), wanted].concat();
            assert_eq!(passed(&said, CHUNK).await.unwrap().len(), said.len());
        }
        let parameter = message(b'S', &[b"name\0".as_slice(), &vec![b'x'; 1 << 20], b"\0"].concat());
        assert!(refusal(&[ready, parameter.repeat(64)].concat()).await.contains("nobody asked for"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_from_a_server_make_us_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if let Ok(out) = runtime.block_on(passed(&bytes, 16)) {
                proptest::prop_assert!(out.len() <= bytes.len());
            }
        }
    }
}
