"""A mail server that keeps nothing: prints its port, then every mail that it gets as a line of JSON."""

import asyncio
import email
import json
import socket

from aiosmtpd.controller import Controller


class Printer:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 there is no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 it is known"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content)
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": str(mail["Subject"]),
            "id": mail["Message-ID"],
            "text": mail.get_payload(decode=True).decode(),
        }), flush=True)
        return "250 it is kept in mind"


with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
controller = Controller(Printer(), hostname="127.0.0.1", port=port)
controller.start()
print(port, flush=True)
asyncio.new_event_loop().run_forever()
