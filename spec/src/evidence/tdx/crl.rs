//! Lists of revoked certificates. `[RFC 5280 §5]`

use crate::{
    evidence::{
        Refused,
        der::{Der, DerError, Tag, well_formed},
        key::Algorithm,
        x509::{BadCertificate, Certificate, time},
    },
    id::UnixSeconds,
};

/// A complete list by one issuer, for certificates of its own; nothing of it is verified yet.
pub(super) struct Crl<'a> {
    tbs: &'a [u8],
    algorithm: Algorithm,
    issuer: &'a [u8],
    this_update: UnixSeconds,
    next_update: UnixSeconds,
    revoked: Vec<&'a [u8]>,
    signature: &'a [u8],
}

impl<'a> Crl<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refused> {
        Self::read(bytes).map_err(|error| Refused::new("tdx-revocation-malformed", error.to_string()))
    }

    fn read(bytes: &'a [u8]) -> Result<Self, BadCertificate> {
        well_formed(bytes)?;
        let mut outer = Der::new(bytes).sequence()?;
        let tbs = outer.tlv(Tag::SEQUENCE)?;
        let algorithm = outer.tlv(Tag::SEQUENCE)?.whole;
        let signature = outer.bit_bytes()?;
        outer.finish()?;

        let mut inner = Der::new(tbs.contents);
        if inner.small()? != 1 {
            return Err(BadCertificate::Value("the list is not of version 2"));
        }
        if inner.tlv(Tag::SEQUENCE)?.whole != algorithm {
            return Err(BadCertificate::Algorithm);
        }
        let issuer = inner.tlv(Tag::SEQUENCE)?.whole;
        let (this_update, next_update) = (time(&mut inner)?, time(&mut inner)?);
        let mut revoked = Vec::new();
        if let Some(list) = inner.optional(Tag::SEQUENCE)? {
            let mut list = Der::new(list);
            while !list.is_empty() {
                let mut entry = list.sequence()?;
                revoked.push(entry.unsigned()?);
                time(&mut entry)?;
                if let Some(extensions) = entry.optional(Tag::SEQUENCE)? {
                    nothing_critical(extensions)?;
                }
                entry.finish()?;
            }
        }
        if let Some(extensions) = inner.optional(Tag::context(0))? {
            nothing_critical(Der::only(extensions, Tag::SEQUENCE)?)?;
        }
        inner.finish()?;
        Ok(Self {
            tbs: tbs.whole,
            algorithm: Algorithm::from_identifier(algorithm).ok_or(BadCertificate::Algorithm)?,
            issuer,
            this_update,
            next_update,
            revoked,
            signature,
        })
    }

    /// Checks that the list is the issuer's and holds at a time. Gives when the next one is due.
    pub(super) fn verify(&self, issuer: &Certificate, at: UnixSeconds) -> Result<UnixSeconds, Refused> {
        if self.issuer != issuer.subject_name()
            || self.algorithm != Algorithm::EcdsaSha256
            || issuer.key().verify(self.algorithm, self.tbs, self.signature).is_err()
        {
            let detail = "a list of revoked certificates is not signed by the issuer of the certificates";
            return Err(Refused::new("tdx-revocation-signature", detail));
        }
        super::check_window("a list of revoked certificates", self.this_update, self.next_update, at)?;
        Ok(self.next_update)
    }

    /// Refuses a certificate that is on the list.
    pub(super) fn check(&self, certificate: &Certificate) -> Result<(), Refused> {
        if self.revoked.contains(&certificate.serial()) {
            let serial = hex::encode(certificate.serial());
            return Err(Refused::new(
                "tdx-revoked",
                format!("Intel revoked the certificate with number {serial}"),
            ));
        }
        Ok(())
    }
}

/// What must be understood is not: a list that is only part of one says so this way.
fn nothing_critical(extensions: &[u8]) -> Result<(), DerError> {
    let mut extensions = Der::new(extensions);
    while !extensions.is_empty() {
        let mut fields = extensions.sequence()?;
        fields.oid()?;
        if fields.peek()? == Some(Tag::BOOLEAN) && fields.boolean()? {
            return Err(DerError::Value("the list has a critical extension"));
        }
        fields.octets()?;
        fields.finish()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
        date_time_ymd,
    };

    use super::*;

    const AT: UnixSeconds = UnixSeconds::new(1_751_000_000);

    struct Authority {
        params: CertificateParams,
        key: KeyPair,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Self { params, key: KeyPair::generate().unwrap() }
        }

        fn certificate(&self) -> Vec<u8> {
            self.params.self_signed(&self.key).unwrap().der().to_vec()
        }

        fn issue(&self, serial: u64) -> Vec<u8> {
            let mut params = CertificateParams::default();
            params.serial_number = Some(SerialNumber::from(serial));
            let issuer = Issuer::from_params(&self.params, &self.key);
            params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
        }

        fn list(&self, serials: &[u64]) -> Vec<u8> {
            let revoked = serials.iter().map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2025, 6, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            });
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2025, 6, 1),
                next_update: date_time_ymd(2025, 7, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: revoked.collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            let issuer = Issuer::from_params(&self.params, &self.key);
            params.signed_by(&issuer).unwrap().der().to_vec()
        }
    }

    fn reason<T>(result: Result<T, Refused>) -> &'static str {
        result.err().unwrap().reason
    }

    #[test]
    fn a_revoked_certificate_is_refused() {
        let authority = Authority::new("one");
        let certificate = authority.certificate();
        let issuer = Certificate::parse(&certificate).unwrap();
        let (bad, good) = (authority.issue(200), authority.issue(201));
        let list = authority.list(&[7, 200]);
        let crl = Crl::parse(&list).unwrap();
        assert_eq!(crl.verify(&issuer, AT).unwrap().get(), 1_751_328_000);
        assert_eq!(reason(crl.check(&Certificate::parse(&bad).unwrap())), "tdx-revoked");
        crl.check(&Certificate::parse(&good).unwrap()).unwrap();
        // An empty list, which leaves the field out.
        let list = authority.list(&[]);
        let crl = Crl::parse(&list).unwrap();
        crl.verify(&issuer, AT).unwrap();
        crl.check(&Certificate::parse(&bad).unwrap()).unwrap();
    }

    #[test]
    fn a_list_of_another_issuer_or_time_is_refused() {
        let (one, other) = (Authority::new("one"), Authority::new("one"));
        let certificate = other.certificate();
        let list = one.list(&[1]);
        let crl = Crl::parse(&list).unwrap();
        let refused = crl.verify(&Certificate::parse(&certificate).unwrap(), AT);
        assert_eq!(reason(refused), "tdx-revocation-signature");
        let certificate = one.certificate();
        let issuer = Certificate::parse(&certificate).unwrap();
        let at = |seconds| reason(crl.verify(&issuer, UnixSeconds::new(seconds)));
        assert_eq!(at(1_751_328_001), "tdx-collateral-expired");
        assert_eq!(at(1_748_735_999), "tdx-collateral-not-yet-valid");
        for bit in 0..8 * list.len() {
            let mut flipped = list.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Crl::parse(&flipped).and_then(|crl| crl.verify(&issuer, AT)).is_err(), "bit {bit}");
        }
    }
}
